"""Score rows of 64 pixel values. The model is found by AZUREML_MODEL_DIR, as current Azure ML scripts do."""

import os
from pathlib import Path

import joblib


def init():
    global model
    model = joblib.load(Path(os.environ["AZUREML_MODEL_DIR"], "digits.joblib"))


def run(images):
    """`images` is an array of shape (rows, 64), values 0 to 16. A numpy answer needs no conversion."""
    return {"digits": model.predict(images)}

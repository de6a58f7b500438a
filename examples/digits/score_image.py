"""Score one picture of a digit: base64 in the request, bytes here. Shares its model with score.py."""

import io
import os
from pathlib import Path

import joblib
import numpy as np
from PIL import Image


def init():
    global model
    model = joblib.load(Path(os.environ["AZUREML_MODEL_DIR"], "digits.joblib"))


def run(image):
    """`image` is the content of a PNG or JPEG file, dark ink on light paper, of any size."""
    with Image.open(io.BytesIO(image)) as opened:
        grey = opened.convert("L").resize((8, 8), Image.Resampling.BOX)
    pixels = 16 * (1 - np.asarray(grey, dtype=float) / 255)
    return {"digit": int(model.predict(pixels.reshape(1, 64))[0])}

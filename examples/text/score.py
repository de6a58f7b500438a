"""Score texts: which part of Python's standard library does each speak of, and how sure is the model?"""

import os
from pathlib import Path

import joblib


def init():
    global model
    model = joblib.load(Path(os.environ["AZUREML_MODEL_DIR"], "topics.joblib"))


def run(texts):
    """`texts` is a list of str. One answer a text: its likeliest topic, and the probability of every topic."""
    if not texts:
        return []
    topics = model.classes_.tolist()
    return [
        {"label": topics[row.argmax()], "probabilities": dict(zip(topics, row.round(4).tolist(), strict=True))}
        for row in model.predict_proba(texts)
    ]

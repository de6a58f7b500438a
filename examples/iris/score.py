"""Scoring script in the style of 2017: the model lies in the working directory, and `run` returns a JSON string.

What `run` returns is a `str`, so callers get it encoded as a JSON string, as they did in 2017. `string_answers: raw`
in the manifest sends it as it is.
"""

import json

import joblib


def init():
    global model
    model = joblib.load("model.pkl")


def run(input_df):
    """The species of each row. `input_df` is a DataFrame with the columns of the schema, in its order."""
    return json.dumps([str(species) for species in model.predict(input_df)])

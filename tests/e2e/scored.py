"""Scoring scripts and schemas of tests/e2e/test_inputs_and_outputs.py."""

from typing import Any

HOUSES = """
import datetime

import joblib
import numpy as np
import pandas as pd
from argosy_serving import Response


def init():
    global model
    model = joblib.load("houses.joblib")


def run(houses, give):
    prices = model.predict(houses)
    if give == "array":
        return prices
    if give == "frame":
        return houses.assign(price=prices)
    if give == "types":
        return [str(houses[name].dtype) for name in houses]
    if give == "gaps":
        return {"prices": np.where(houses["rooms"].isna(), np.nan, prices), "most": np.inf, "none": pd.NaT}
    if give == "values":
        moment = datetime.datetime(2024, 5, 31, 12, tzinfo=datetime.timezone.utc)
        return {"at": moment, "day": moment.date(), "bytes": b"\\x00\\x01", "count": np.int64(len(prices))}
    csv = "price\\n" + "".join(f"{price:.0f}\\n" for price in prices)
    return Response(csv, 201, {"content-type": "text/csv", "x-houses": str(len(prices))})
"""
HOUSE_COLUMNS: list[dict[str, Any]] = [
    {"name": "rooms", "dtype": "float64"},
    {"name": "floor", "dtype": "int16"},
    {"name": "built", "dtype": "datetime64[ns]"},
    {"name": "kind", "dtype": "category", "categories": ["flat", "villa"]},
    {"name": "town", "dtype": "str"},
]
HOUSE: dict[str, Any] = {"rooms": 3, "floor": 1, "built": "1990-01-01", "kind": "flat", "town": "Ulm"}
VILLA: dict[str, Any] = {"town": None, "kind": "villa", "built": "2010-06-01T00:00:00", "floor": 0.0, "rooms": None}
HOUSES_SCHEMA = {
    "input": {
        "houses": {"type": "pandas", "columns": HOUSE_COLUMNS, "example": [HOUSE]},
        "give": {"type": "standard", "swagger": {"type": "string"}, "example": "array"},
    }
}

DIGITS = """
import datetime
import decimal

import joblib


def init():
    global model
    model = joblib.load("digits.joblib")


def run(pictures, scales, people, day, price, note):
    assert pictures.dtype == "float32" and scales.dtype == "uint8" and type(day) is datetime.date
    assert isinstance(price, decimal.Decimal) and type(note) is bytes
    rows = pictures.reshape(len(pictures), -1).astype("float64") * scales[0, 0, 0, 0]
    ages = [int(age) for age in people["age"].reshape(-1)]
    return {"digits": model.predict(rows), "ages": ages, "day": day, "price": price, "note": note.decode()}
"""
DIGITS_SCHEMA = {
    "input": {
        "pictures": {"type": "numpy", "dtype": "float32", "shape": [None, 8, 8]},
        "scales": {"type": "numpy", "dtype": "uint8", "shape": [1, 1, 1, 1]},
        "people": {"type": "numpy", "dtype": [["age", "int32"], ["name", "str"]], "shape": [None]},
        "day": {"type": "standard", "swagger": {"type": "string", "format": "date"}},
        "price": {"type": "standard", "swagger": {"type": "string", "format": "decimal"}},
        "note": {"type": "standard", "swagger": {"type": "string", "format": "byte"}},
    }
}

PICTURE = """
import io

import joblib
import numpy as np
from PIL import Image


def init():
    global model
    model = joblib.load("digits.joblib")


def run(picture):
    grey = np.asarray(Image.open(io.BytesIO(picture)).convert("L"), dtype=float) / 16
    return int(model.predict(grey.reshape(1, -1))[0])
"""

ROWS = "import joblib\ndef init():\n    global model\n    model = joblib.load('digits.joblib')\n"
ROWS += "def run(rows):\n    return model.predict(rows)\n"
ROWS_SCHEMA = {"input": {"rows": {"type": "numpy", "dtype": "float64", "shape": [None, 64]}}}

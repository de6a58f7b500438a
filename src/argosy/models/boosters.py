"""Features of XGBoost and LightGBM model files, read from their first and last bytes."""

import json
import re
from typing import Any

from argosy.models.inputs import Inputs, features

_JSON_NAMES = re.compile(rb'"feature_names"\s*:\s*(\[[^\]]*\])')
_JSON_COUNT = re.compile(rb'"num_feature"\s*:\s*"(\d{1,9})"')
# UBJSON: `feature_names[#L<8 bytes>`, then strings `SL<8 bytes><text>`; `num_featureSL<8 bytes><digits>`.
_UBJ_NAMES = re.compile(rb"feature_names\[#L(.{8})", re.DOTALL)
_UBJ_COUNT = re.compile(rb"num_featureSL\x00{7}[\x01-\x09](\d{1,9})", re.DOTALL)
_MOST_NAMES = 2000

_LIGHTGBM_NAMES = re.compile(rb"^feature_names=([^\r\n]*)\r?$", re.MULTILINE)
_LIGHTGBM_LAST = re.compile(rb"^max_feature_idx=(\d{1,9})\r?$", re.MULTILINE)
_LIGHTGBM_CATEGORIES = re.compile(rb"^pandas_categorical:(.*)$", re.MULTILINE)
_CATEGORICAL_TYPES = re.compile(rb'"feature_types"\s*:\s*\[[^\]]*"c"')


def xgboost_inputs(head: bytes, tail: bytes) -> Inputs | None:
    """None for a model with categories, whose columns are no numbers."""
    if _CATEGORICAL_TYPES.search(head):
        return None
    found = _JSON_COUNT.findall(head + tail) or _UBJ_COUNT.findall(head + tail)
    return features(_xgboost_names(head), int(found[-1]) if found else None)


def lightgbm_inputs(head: bytes, tail: bytes) -> Inputs | None:
    """As for XGBoost. Names that LightGBM made up itself (`Column_0`) are none."""
    categories = _LIGHTGBM_CATEGORIES.findall(tail)
    if categories and categories[-1].strip() not in (b"[]", b"null"):
        return None
    last, given = _LIGHTGBM_LAST.search(head), _LIGHTGBM_NAMES.search(head)
    names = given[1].decode("utf-8", "replace").split(" ") if given else []
    if all(re.fullmatch(r"Column_\d+", name) for name in names):
        names = []
    return features(names, int(last[1]) + 1 if last else None)


def _xgboost_names(head: bytes) -> list[Any]:
    if found := _JSON_NAMES.search(head):
        try:
            names = json.loads(found[1])
        except (ValueError, RecursionError):
            return []
        return names if isinstance(names, list) else []
    counted = _UBJ_NAMES.search(head)
    count = int.from_bytes(counted[1], "big") if counted else 0
    names, at = [], counted.end() if counted else 0
    for _ in range(min(count, _MOST_NAMES + 1)):
        length = int.from_bytes(head[at + 2 : at + 10], "big")
        text = head[at + 10 : at + 10 + length]
        if head[at : at + 2] != b"SL" or len(text) < length:
            return []
        names.append(text.decode("utf-8", "replace"))
        at += 10 + length
    return names

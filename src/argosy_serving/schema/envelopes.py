"""Request bodies in the forms that MLflow and Azure ML servers take, where the schema's own names are missing.

Looked at only when a body lacks an input of the schema at its top level, so a body that names its inputs costs nothing
more, and an input that is itself called `inputs` is never mistaken for an envelope.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from argosy_serving.schema.problems import InvalidInput, step

# `input_data` of Azure ML's MLflow servers; the others of MLflow's own, `instances` also of TensorFlow's.
NAMES = ("input_data", "dataframe_split", "dataframe_records", "inputs", "instances")
_SPLIT = {"columns", "data", "index"}


@dataclass(frozen=True)
class Unwrapped:
    """A body by the schema's names, and, by pointers, where in the original each of the moved values was."""

    document: dict[str, Any]
    places: Mapping[str, str]

    def relocated(self, problem: InvalidInput) -> InvalidInput:
        """The same problem, with a pointer into what the caller sent."""
        for own, place in self.places.items():
            if problem.pointer == own or problem.pointer.startswith(f"{own}/"):
                return InvalidInput(place + problem.pointer[len(own) :], problem.expected, problem.received)
        return problem


def unwrap(
    document: Mapping[str, Any], names: Iterable[str], kinds: Mapping[str, str], columns: Mapping[str, list[Any]]
) -> Unwrapped | None:
    """The body with its one envelope taken off; None when it has none, or it cannot be said what is in it.

    `names` are the inputs that a body must have, `kinds` the types of all inputs, `columns` those of the frames.
    An object with all of the missing inputs gives them by name; else there must be one missing input, which gets the
    value: an array as it is, an object with `columns` and `data` as a frame, or as the array in `data`.
    """
    envelopes = [name for name in document if name in NAMES and name not in kinds]
    missing = [name for name in names if name not in document]
    if len(envelopes) != 1 or not missing:
        return None
    envelope = envelopes[0]
    value, at = document[envelope], step("", envelope)
    rest = {name: item for name, item in document.items() if name != envelope}
    if isinstance(value, dict) and all(name in value for name in missing) and not _is_split(value, kinds):
        return Unwrapped({**rest, **value}, {step("", name): step(at, name) for name in value})
    if len(missing) > 1:
        return None
    name = missing[0]
    own = step("", name)
    if isinstance(value, dict) and isinstance(value.get("data"), list) and value.keys() <= _SPLIT:
        if kinds[name] != "pandas":
            return Unwrapped({**rest, name: value["data"]}, {own: f"{at}/data"})
        if "columns" not in value:
            value = {"columns": columns[name], **value}
    elif kinds[name] == "pandas" and isinstance(value, list) and value and isinstance(value[0], list):
        # Rows without names have the schema's order.
        rows = {"columns": columns[name], "data": value}
        return Unwrapped({**rest, name: rows}, {f"{own}/data": at, own: at})
    return Unwrapped({**rest, name: value}, {own: at})


def _is_split(value: Mapping[str, Any], kinds: Mapping[str, str]) -> bool:
    """Whether `data` are rows of a frame or an array, though an input has that name too."""
    rows = value.get("data")
    if not isinstance(rows, list) or not value.keys() <= _SPLIT or "columns" in kinds:
        return False
    return "columns" in value or (kinds.get("data") == "pandas" and bool(rows) and isinstance(rows[0], list))

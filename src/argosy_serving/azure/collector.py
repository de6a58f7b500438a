"""`ModelDataCollector` of 2017: rows for the replica's tap.

Unlike the original it never changes what it is given (that one put three columns into the caller's frame), needs no
native library, and does nothing but count while nobody stores the rows.
"""

import copy
import csv
import datetime
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from argosy_serving.request_context import REQUEST_ID
from argosy_serving.tap import TAP, Collected

logger = logging.getLogger("argosy")

_OWN_COLUMNS = ("$Timestamp", "$CorrelationId", "$RequestId")
_NO_REQUEST = "00000000-0000-0000-0000-000000000000"


class ModelDataCollector:
    """`collect` takes a list (one row), an array (one dimension is one row), or a pandas DataFrame. It never raises.

    With AML_MODEL_DC_DEBUG=true the rows are also printed as CSV, with a header where the columns have names.
    """

    def __init__(
        self,
        model_name: str,
        identifier: str = "default",
        feature_names: "Sequence[str] | None" = None,
        model_management_account_id: str = "unknown",
        webservice_name: str = "unknown",
        model_id: str = "unknown",
        model_version: str = "unknown",
    ) -> None:
        self._origin = {
            "model_name": str(model_name),
            "identifier": str(identifier),
            "model_management_account_id": str(model_management_account_id),
            "webservice_name": str(webservice_name),
            "model_id": str(model_id),
            "model_version": str(model_version),
        }
        self._feature_names = tuple(str(name) for name in _sequence(feature_names))
        self._debug = os.environ.get("AML_MODEL_DC_DEBUG", "").lower() == "true"

    def collect(self, input_data: Any, user_correlation_id: str = "") -> None:
        """Copy the rows and hand them on; a warning in the log when they cannot be read."""
        try:
            columns, rows, width = _shape_of(input_data)
            columns = columns or self._feature_names
            if columns and rows and width != len(columns):
                raise ValueError(f"a row has {width} values, but there are {len(columns)} columns")
            if TAP.sink is None and not self._debug:
                TAP.drop(rows)
                return
            collected = Collected(
                origin=self._origin,
                columns=columns,
                rows=_rows_of(input_data),
                timestamp=datetime.datetime.now(datetime.timezone.utc).isoformat(),
                request_id=REQUEST_ID.get() or _NO_REQUEST,
                correlation_id=str(user_correlation_id),
            )
            if self._debug:
                print(_csv(collected), end="")
            TAP.give(collected)
        except Exception as problem:  # noqa: BLE001 - what is collected must never break what is scored
            logger.warning("ModelDataCollector.collect: nothing was collected: %s", problem)


def _sequence(value: Any) -> "list[Any]":
    return [] if value is None else list(value)


def _shape_of(data: Any) -> "tuple[tuple[str, ...], int, int]":
    """Columns, when the data names them, rows, and values a row. Raises TypeError or ValueError."""
    # Looked up, not imported: data of theirs cannot exist before they are loaded.
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if pandas is not None and isinstance(data, pandas.DataFrame):
        return tuple(str(name) for name in data.columns), len(data), len(data.columns)
    if numpy is not None and isinstance(data, numpy.ndarray):
        if data.dtype.names:
            return tuple(data.dtype.names), data.size, len(data.dtype.names)
        if data.ndim > 2:
            raise ValueError(f"an array of {data.ndim} dimensions has no rows of single values")
        rows, width = numpy.atleast_2d(data).shape
        return (), rows, width
    if isinstance(data, list):
        return (), 1, len(data)
    raise TypeError(f"a list, a numpy array or a pandas DataFrame is needed, not {type(data).__name__}")


def _rows_of(data: Any) -> "tuple[tuple[Any, ...], ...]":
    """The same data's rows, which share nothing with it."""
    if isinstance(data, list):
        return (tuple(copy.deepcopy(data)),)
    if hasattr(data, "itertuples"):
        return tuple(tuple(copy.deepcopy(row)) for row in data.itertuples(index=False, name=None))
    if data.dtype.names:
        return tuple(tuple(row) for row in data.reshape(-1).tolist())
    return tuple(tuple(row) for row in data.reshape(-1, data.shape[-1] if data.ndim else 1).tolist())


def _csv(collected: Collected) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if collected.columns:
        writer.writerow([*_OWN_COLUMNS, *collected.columns])
    stamp = (collected.timestamp, collected.correlation_id, collected.request_id)
    writer.writerows([*stamp, *row] for row in collected.rows)
    return text.getvalue()

"""What `run` returned, as bytes.

Anything JSON can say, plus numpy arrays and numbers, pandas frames (an array of row objects), series and dates,
datetime (ISO 8601), bytes (base64), Decimal, sets and dataclasses. NaN, infinities, NaT and None are `null`, for JSON
has no other word. A `str` is a JSON string, also when it holds JSON; with `string_answers: raw` it is sent as it is.
"""

import base64
import datetime
import decimal
import re
from collections.abc import Mapping
from typing import Any

import orjson

JSON = b"application/json"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# Framing and identity are the server's business.
_OURS = {"content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer", "date"}
_PLAIN = orjson.OPT_SERIALIZE_NUMPY
_ANY_KEY = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


class ResponseHeaders(dict[str, str]):
    """Checked as they are set, also later: a value from a caller must not become a header of its own."""

    def __setitem__(self, name: str, value: str) -> None:
        if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
            raise ValueError(f"{name!r} cannot be a header of a Response.")
        if not isinstance(value, str) or not _FIELD.fullmatch(value):
            raise ValueError(f"The value of header {name} has characters that HTTP forbids.")
        for other in [other for other in self if other.lower() == name.lower()]:
            del self[other]
        super().__setitem__(name, value)

    def update(self, *others: Any, **more: str) -> None:
        for name, value in dict(*others, **more).items():
            self[name] = value

    def setdefault(self, name: str, default: str = "") -> str:
        if name not in self:
            self[name] = default
        return self[name]


class Response:
    """An answer with its own status, headers and bytes, for scripts that want more than a JSON value.

    Raises ValueError or TypeError at once when HTTP could not carry it.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, body: "bytes | str" = b"", status: int = 200, headers: "Mapping[str, str] | None" = None
    ) -> None:
        if isinstance(body, str):
            body = body.encode()
        if not isinstance(body, (bytes, bytearray, memoryview)):
            raise TypeError(f"The body of a Response is bytes, not {type(body).__name__}.")
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise ValueError(f"The status of a Response is 200 to 599, not {status!r}.")
        if status in (204, 304) and len(body):
            raise ValueError(f"A Response of status {status} has no body.")
        self.body = bytes(body)
        self.status = int(status)
        self.headers = ResponseHeaders()
        for name, value in (headers or {}).items():
            self.headers[name] = value


class NotEncodable(Exception):
    """`run` returned something that has no JSON form."""


def encode_json(value: Any) -> bytes:
    """JSON in UTF-8. Raises NotEncodable."""
    try:
        return orjson.dumps(value, _other, _PLAIN)
    except TypeError:
        pass
    try:
        return orjson.dumps(value, _other, _ANY_KEY)  # slower, for keys such as 1 or a date
    except TypeError as problem:
        cause = problem.__cause__
        raise NotEncodable(
            f"run() returned a {type(value).__name__} that JSON cannot say: {cause or problem}"
        ) from None


def _other(value: Any) -> Any:
    """The nearest JSON value of what orjson does not know. Called by orjson, again for what it returns."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if type(value).__name__ in ("NaTType", "NAType"):
        return None
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return str(value)
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() and abs(value) < 2**53 else float(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return value.to_dict("records")
    if hasattr(value, "tolist"):  # numpy arrays orjson cannot take as they lie, series, indexes, tensors
        return value.tolist()
    if isinstance(value, complex):
        raise TypeError("complex numbers have no JSON form")
    raise TypeError(f"{type(value).__name__} has no JSON form")


def encode_raw(text: str) -> "tuple[bytes, bytes]":
    """Content type and body of a string that is sent as it is."""
    body = text.encode("utf-8", "replace")
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return b"text/plain; charset=utf-8", body
    return JSON, body

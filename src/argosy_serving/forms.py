"""Bodies of multipart/form-data (RFC 7578), taken apart in one pass with bounded parts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from argosy_serving.schema import InvalidInput

_MOST_PARTS = 256
_HEAD_LIMIT_BYTES = 8192
# RFC 2046: 1 to 70 of these, not ending in a space.
_BOUNDARY = re.compile(r"""boundary=(?:"([0-9A-Za-z'()+_,./:=? -]{0,69}[^" ])"|([!-:<-~]{1,70}))(?:\s*;|\s*$)""", re.I)
_NAME = re.compile(r';\s*name="((?:[^"\\]|\\.){0,500})"|;\s*name=([^";\s]{1,500})', re.I)
_FILE = re.compile(r";\s*filename\*?=", re.I)


@dataclass(frozen=True)
class Part:
    """One field. `kind` is its content type in lower case without parameters, '' when it has none."""

    name: str
    kind: str
    is_file: bool
    content: bytes


def parse_form(body: bytes, content_type: str) -> "list[Part]":
    """The parts in their order. Raises InvalidInput for a body that is no form, or has too many parts."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise _wrong("a boundary in the content type", f"{content_type[:100]!r}")
    delimiter = b"--" + (found.group(1) or found.group(2)).encode("latin-1")
    parts: list[Part] = []
    for raw in _split(body, delimiter):
        if len(parts) == _MOST_PARTS:
            raise _wrong(f"at most {_MOST_PARTS} parts", "more")
        parts.append(_part(raw, len(parts)))
    return parts


def _split(body: bytes, delimiter: bytes) -> "Iterator[bytes]":
    """What lies between the delimiters; a delimiter is a line of its own."""
    if body.startswith(delimiter):
        start = len(delimiter)
    else:
        preamble = body.find(b"\r\n" + delimiter)
        if preamble < 0:
            raise _wrong("parts between boundaries", "no boundary")
        start = preamble + 2 + len(delimiter)
    while not body.startswith(b"--", start):
        line_end = body.find(b"\r\n", start, start + 256)
        if line_end < 0 or body[start:line_end].strip(b" \t"):
            raise _wrong("a line break behind each boundary", "something else")
        end = body.find(b"\r\n" + delimiter, line_end)
        if end < 0:
            raise _wrong("a closing boundary", "a body that ends before it")
        # A part without headers and content: its two line breaks are one.
        yield body[line_end + 2 : end] if end > line_end else b""
        start = end + 2 + len(delimiter)


def _part(raw: bytes, number: int) -> Part:
    head_end = 0 if raw.startswith(b"\r\n") else raw.find(b"\r\n\r\n", 0, _HEAD_LIMIT_BYTES)
    if head_end < 0:
        raise _wrong(f"headers of at most {_HEAD_LIMIT_BYTES} bytes in each part", f"none that end in part {number}")
    content = raw[head_end + 4 :] if head_end else raw[2:]
    headers = {}
    for line in raw[:head_end].decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    disposition = headers.get("content-disposition", "")
    found = _NAME.search(disposition)
    if not disposition.lower().startswith("form-data") or found is None:
        raise _wrong("`content-disposition: form-data; name=...` in each part", f"none in part {number}")
    if headers.get("content-transfer-encoding", "binary").lower() not in ("binary", "8bit", "7bit"):
        raise _wrong("parts as they are", f"content-transfer-encoding {headers['content-transfer-encoding'][:40]!r}")
    name = re.sub(r"\\(.)", r"\1", found.group(1)) if found.group(1) is not None else found.group(2)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return Part(name.replace("%22", '"'), kind, _FILE.search(disposition) is not None, content)


def _wrong(expected: str, received: str) -> InvalidInput:
    return InvalidInput("", expected, received)

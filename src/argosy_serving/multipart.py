"""Bodies of type multipart/form-data (RFC 7578), as form fields and uploaded files.

One pass over the body, nothing decoded: what a part holds is the very bytes between two boundaries.
"""

import re
from dataclasses import dataclass
from email.utils import decode_rfc2231, unquote
from urllib.parse import unquote_to_bytes

_LONGEST_BOUNDARY = 70  # RFC 2046
_LONGEST_HEAD_BYTES = 16_384
_MOST_PARTS = 1000
# A quoted value runs to its closing quote or to the end, so that no text is looked at twice.
_PARAMETER = re.compile(r';\s*([A-Za-z0-9!#$%&\'*+.^_`|~-]+)\s*=\s*("(?:[^"\\]|\\.)*"?|[^;\s"]*)', re.DOTALL)


class NotMultipart(ValueError):
    """The body is no multipart body, or not a whole one; the message says where."""


@dataclass(frozen=True)
class Part:
    """`filename` is None for a plain field. `content_type` is '' when the part does not say. Names of `headers` are
    in lower case."""

    name: str
    filename: "str | None"
    content_type: str
    headers: "dict[str, str]"
    body: bytes


def is_multipart(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def parse_multipart(content_type: str, body: bytes) -> list[Part]:
    """The parts in order. Raises NotMultipart."""
    boundary = parameters(content_type).get("boundary", "")
    if not 0 < len(boundary) <= _LONGEST_BOUNDARY or not boundary.isascii():
        raise NotMultipart("the content type names no boundary of 1 to 70 characters")
    mark = b"--" + boundary.encode()
    if body.startswith(mark):
        position = len(mark)
    elif (found := body.find(b"\r\n" + mark)) >= 0:
        position = found + 2 + len(mark)  # after a preamble
    else:
        raise NotMultipart("the boundary of the content type is not in the body")
    parts: list[Part] = []
    while True:
        end_of_line = body.find(b"\r\n", position)
        rest = body[position : position + 2]
        if rest == b"--":
            return parts
        if end_of_line < 0 or body[position:end_of_line].strip(b" \t"):
            raise NotMultipart(f"the boundary at byte {position} does not end its line")
        if len(parts) >= _MOST_PARTS:
            raise NotMultipart(f"it has more than {_MOST_PARTS} parts")
        start = end_of_line + 2
        end = body.find(b"\r\n" + mark, start - 2)
        if end < 0:
            raise NotMultipart("the last part has no end: the body was cut off")
        parts.append(_part(body[start : max(start, end)], len(parts) + 1))
        position = end + 2 + len(mark)


def parameters(value: str) -> dict[str, str]:
    """The parameters of a header such as `form-data; name="a"; filename*=UTF-8''b%C3%A9.png`, names in lower case."""
    found: dict[str, str] = {}
    for match in _PARAMETER.finditer(value):
        name, text = match[1].lower(), match[2]
        if name.endswith("*"):
            charset, _, encoded = decode_rfc2231(text)
            found[name[:-1]] = unquote_to_bytes(encoded).decode(_known(charset), "replace")
        elif name not in found:
            found[name] = unquote(text if text.endswith('"') else f'{text}"') if text.startswith('"') else text
    return found


def _known(charset: "str | None") -> str:
    return "latin-1" if (charset or "").lower() in ("iso-8859-1", "latin-1") else "utf-8"


def _part(raw: bytes, number: int) -> Part:
    if raw.startswith(b"\r\n"):
        head, content = b"", raw[2:]
    else:
        head, blank, content = raw.partition(b"\r\n\r\n")
        if not blank or len(head) > _LONGEST_HEAD_BYTES:
            raise NotMultipart(f"part {number} has no head, or one of more than {_LONGEST_HEAD_BYTES} bytes")
    headers: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    disposition = parameters(headers.get("content-disposition", ""))
    if "name" not in disposition:
        raise NotMultipart(f"part {number} has no name in a content-disposition")
    return Part(disposition["name"], disposition.get("filename"), headers.get("content-type", ""), headers, content)

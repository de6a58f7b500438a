"""Which request bodies are read how, and which answers a caller can have: everything but plain JSON.

Plain JSON never comes here, so that it pays for none of this.
"""

import base64
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from argosy_serving import arrow, compression, npy
from argosy_serving.arrow import ARROW, read_arrow, read_part, write_arrow
from argosy_serving.multipart import NotMultipart, parse_multipart
from argosy_serving.npy import NPY, parse_npy, read_npy, write_npy
from argosy_serving.refusals import NotAcceptable, WrongType
from argosy_serving.schema import Field, InvalidInput, Schema
from argosy_serving.schema.problems import step

JSON = "application/json"
FORM = "multipart/form-data"
# What `curl -d` says of any body, unless it is told better.
_CURL = "application/x-www-form-urlencoded"

Read = Callable[[bytes], "dict[str, Any]"]
Encoded = tuple[bytes, bytes, "list[tuple[bytes, bytes]]"]  # content type, body, further headers


def is_json(kind: str) -> bool:
    """Text counts as JSON, for many clients send nothing better."""
    return not kind or kind in (JSON, _CURL) or kind.startswith("text/") or kind.endswith("+json")


@dataclass(frozen=True)
class Installed:
    """For each content type beside JSON, why the environment cannot read and write it; '' when it can."""

    lacking: "Mapping[str, str]"

    @property
    def forms(self) -> "tuple[str, ...]":
        return tuple(kind for kind, why in self.lacking.items() if not why)

    def check(self, kind: str) -> None:
        """Raise WrongType when `kind` cannot be read."""
        if self.lacking[kind]:
            raise WrongType(kind, self.lacking[kind])


def installed() -> Installed:
    return Installed({ARROW: arrow.lacking(), NPY: npy.lacking()})


@dataclass(frozen=True)
class Exchange:
    """How one request is read and answered.

    `read` gives the arguments of `run`, or None for a body that is JSON, or the script's own business; `write` content
    type, body and headers of an answer, or None for one in JSON. `whole`: there is no form for a stream; its items are
    answered as a list.
    """

    encoding: str
    limit_bytes: int
    read: "Callable[[bytes], dict[str, Any] | None]"
    write: "Callable[[Any], Encoded | None]"
    whole: bool = False

    def plain_body(self, body: bytes) -> bytes:
        """The body without its content encoding. Raises TooLarge and BadInput."""
        return compression.decompress(body, self.encoding, self.limit_bytes) if self.encoding else body


def exchange_of(
    headers: Mapping[bytes, bytes], limit_bytes: int, schema: "Schema | None", raw: bool, forms: Installed
) -> "Exchange | None":
    """Decided before the body is read; None for plain JSON. `raw`: the script reads and answers as it likes.

    Raises WrongType and NotAcceptable.
    """
    encoding = compression.encoding_of(headers)
    given = headers.get(b"content-type", b"").decode("latin-1")
    read = _reader(given, schema, forms) if schema is not None and not raw else None
    outputs = list(schema.outputs) if schema is not None else []
    name = outputs[0] if len(outputs) == 1 else "output"
    write = None if raw else _writer(headers.get(b"accept", b"").decode("latin-1").lower(), name, forms)
    if not encoding and read is None and write is None:
        return None
    return Exchange(encoding, limit_bytes, read or _nothing, write or _nothing)


def _nothing(_: Any) -> None:
    return None


def _reader(given: str, schema: Schema, forms: Installed) -> "Read | None":
    kind = given.partition(";")[0].strip().lower()
    only = schema.only_input
    if kind == ARROW:
        forms.check(ARROW)
        return functools.partial(read_arrow, schema)
    if kind == NPY:
        if only is None or only.type != "numpy":
            raise WrongType(NPY, f"It holds one array, and the inputs are: {_told(schema)}. Send application/json.")
        forms.check(NPY)
        return functools.partial(read_npy, schema)
    if kind == FORM:
        return lambda body: _read_form(schema, body, given, forms)
    if is_json(kind):
        return None
    if only is not None and only.is_bytes:
        return lambda body: {only.name: _raw(schema, only, body)}
    raise WrongType(given, f"The inputs are: {_told(schema)}. Send application/json.")


def _told(schema: Schema) -> str:
    return ", ".join(f"{each.name} ({each.type})" for each in schema.inputs.values()) or "none"


def _raw(schema: Schema, each: Field, content: bytes) -> Any:
    if each.swagger.keys() <= {"type", "format", "title", "description"}:
        return content
    # Other rules are about the text in base64, as which JSON has it.
    text = base64.b64encode(content).decode()
    return schema.decode_one(each.name, text)


def _read_form(schema: Schema, body: bytes, given: str, forms: Installed) -> "dict[str, Any]":
    ready: dict[str, Any] = {}
    document: dict[str, Any] = {}
    try:
        parts = parse_multipart(given, body)
    except NotMultipart as problem:
        raise InvalidInput("", f"a body of {FORM}", f"something else: {problem}") from None
    for part in parts:
        at, kind = step("", part.name), part.content_type.partition(";")[0].strip().lower()
        if part.name in ready or part.name in document:
            raise InvalidInput(at, "one part", "two parts")
        each = schema.inputs.get(part.name)
        if each is None:
            raise InvalidInput(at, schema.expected(), "an unknown input")
        if each.is_bytes and kind != JSON:
            ready[part.name] = _raw(schema, each, part.body)
        elif each.make_typed is not None and kind == ARROW:
            forms.check(ARROW)
            ready[part.name] = read_part(schema, each, part.body)
        elif each.type == "numpy" and kind == NPY:
            ready[part.name] = schema.decode_typed(part.name, parse_npy(part.body, at), at)
        else:
            document[part.name] = _part_value(part.body, kind, each, at)
    return schema.decode_mixed(ready, document)


def _part_value(content: bytes, kind: str, each: Field, at: str) -> Any:
    """JSON; or, for an input that is a string, the text as it is typed into a form."""
    if kind != JSON and each.type == "standard" and each.swagger.get("type") == "string":
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise InvalidInput(at, "text in UTF-8", "other bytes") from None
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as problem:
        raise InvalidInput(at, "valid JSON", f"something else: {problem}") from None


def _writer(accept: str, name: str, forms: Installed) -> "Callable[[Any], Encoded | None] | None":
    """For the first form named that there is; None for JSON, also when only forms are named that there are not."""
    kinds = [each.partition(";")[0].strip() for each in accept.split(",")]
    wanted = next((kind for kind in kinds if kind in (ARROW, NPY, JSON)), JSON)
    if wanted == JSON:
        return None
    json_too = any(kind in (JSON, "application/*", "*/*") for kind in kinds)
    if forms.lacking[wanted]:
        if json_too:
            return None
        raise NotAcceptable(wanted, forms.lacking[wanted])
    encode = write_arrow if wanted == ARROW else write_npy

    def write(value: Any) -> "Encoded | None":
        body = encode(value, name)
        if body is not None:
            return wanted.encode(), body, []
        if json_too:
            return None
        raise NotAcceptable(wanted, f"run() returned a {type(value).__name__} that has no such form")

    return write

"""`@rawhttp`, `AMLRequest` and `AMLResponse`: scripts that take the HTTP request itself.

Those classes were Flask's; these have the attributes that scripts use, in Flask's words, without Flask.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import orjson

from argosy_serving.answers import JSON, Response
from argosy_serving.multipart import NotMultipart, is_multipart, parse_multipart
from argosy_serving.schema import InvalidInput
from argosy_serving.schema.problems import step

RAW_HTTP = "__argosy_raw_http__"
_FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 1000
_HTML = "text/html; charset=utf-8"  # what Flask says of a body without a type

_Run = TypeVar("_Run", bound=Callable[..., Any])


def rawhttp(run: _Run) -> _Run:
    """`run` gets the request, as AMLRequest, instead of its body."""
    setattr(run, RAW_HTTP, True)
    return run


class Headers(Mapping[str, str]):
    """Names in any case."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._by_name = {name.lower(): (name, value) for name, value in headers.items()}

    def __getitem__(self, name: str) -> str:
        return self._by_name[name.lower()][1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._by_name


_Value = TypeVar("_Value")


class MissingField(InvalidInput, KeyError):
    """A script asked for a field that the caller did not send: 400, unless the script catches it as a KeyError."""


class Values(dict[str, _Value]):
    """Fields, each by its first value; `getlist` has all."""

    def __init__(self, pairs: "list[tuple[str, _Value]]") -> None:
        self._lists: dict[str, list[_Value]] = {}
        for name, value in pairs:
            self._lists.setdefault(name, []).append(value)
        super().__init__({name: values[0] for name, values in self._lists.items()})

    def __missing__(self, name: str) -> _Value:
        raise MissingField(step("", name), "this field", "nothing")

    def getlist(self, name: str) -> "list[_Value]":
        return list(self._lists.get(name, []))


class UploadedFile(io.BytesIO):
    """A file of a form: a binary file object that knows its name. `filename` is the caller's: never a path to trust."""

    def __init__(self, name: str, filename: str, content_type: str, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(body)
        self.name, self.filename, self.content_type = name, filename, content_type
        self.mimetype = content_type.partition(";")[0].strip().lower()
        self.headers = Headers(headers)
        self.content_length = len(body)

    @property
    def stream(self) -> "UploadedFile":
        return self

    def save(self, destination: Any) -> None:
        """Write it to a path, or to an open binary file."""
        if hasattr(destination, "write"):
            destination.write(self.getbuffer())
        else:
            Path(destination).write_bytes(self.getbuffer())


class AMLRequest:
    """One request. Reading a form or JSON that is none raises InvalidInput: the caller's mistake, a 400."""

    def __init__(self, method: str, path: str, query: bytes, headers: Mapping[str, str], body: bytes) -> None:
        self.method, self.path, self.query_string = method, path, query
        self.headers = Headers(headers)
        self.full_path = f"{path}?{query.decode('latin-1')}"
        self.args = _fields(query)
        self._body = body
        self._forms: tuple[Values[str], Values[UploadedFile]] | None = None

    @property
    def content_type(self) -> "str | None":
        return self.headers.get("content-type")

    @property
    def mimetype(self) -> str:
        return (self.content_type or "").partition(";")[0].strip().lower()

    @property
    def content_length(self) -> int:
        return len(self._body)

    @property
    def data(self) -> bytes:
        """The body; empty for a form, whose fields and files are in `form` and `files`."""
        return b"" if self.mimetype == _FORM or is_multipart(self.mimetype) else self._body

    def get_data(self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False) -> Any:
        body = self.data if parse_form_data else self._body
        return body.decode("utf-8", "replace") if as_text else body

    @property
    def stream(self) -> io.BytesIO:
        return io.BytesIO(self._body)

    @property
    def is_json(self) -> bool:
        return self.mimetype == JSON.decode() or (
            self.mimetype.startswith("application/") and self.mimetype.endswith("+json")
        )

    @property
    def json(self) -> Any:
        return self.get_json()

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        try:
            if not (force or self.is_json):
                raise InvalidInput("", "a body of type application/json", f"one of type {self.mimetype or 'none'!r}")
            try:
                return orjson.loads(self._body)
            except orjson.JSONDecodeError as problem:
                raise InvalidInput("", "valid JSON", f"something else: {problem}") from None
        except InvalidInput:
            if silent:
                return None
            raise

    @property
    def form(self) -> Values[str]:
        return self._parsed()[0]

    @property
    def files(self) -> Values[UploadedFile]:
        return self._parsed()[1]

    @property
    def values(self) -> Values[str]:
        """Of the query, then of the form."""
        return Values([*self.args.items(), *self.form.items()])

    def _parsed(self) -> "tuple[Values[str], Values[UploadedFile]]":
        if self._forms is None:
            self._forms = self._parse()
        return self._forms

    def _parse(self) -> "tuple[Values[str], Values[UploadedFile]]":
        if self.mimetype == _FORM:
            return _fields(self._body), Values([])
        if not is_multipart(self.mimetype):
            return Values([]), Values([])
        try:
            parts = parse_multipart(self.content_type or "", self._body)
        except NotMultipart as problem:
            raise InvalidInput("", "a multipart form", f"something else: {problem}") from None
        fields = [(p.name, p.body.decode("utf-8", "replace")) for p in parts if p.filename is None]
        files = [
            (p.name, UploadedFile(p.name, p.filename, p.content_type, p.headers, p.body))
            for p in parts
            if p.filename is not None
        ]
        return Values(fields), Values(files)


def _fields(encoded: bytes) -> Values[str]:
    try:
        text = encoded.decode("ascii", "replace")
        return Values(parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError as problem:
        raise InvalidInput("", f"at most {_MOST_FIELDS} fields", f"something else: {problem}") from None


class AMLResponse(Response):
    """An answer as it is: bytes or text, a status and headers. `json_str` encodes `message` as JSON; None is `{}`.

    Raises ValueError or TypeError at once when HTTP could not carry it.
    """

    def __init__(
        self,
        message: Any,
        status_code: int,
        response_headers: "Mapping[str, str] | None" = None,
        json_str: bool = False,
        run_function_failed: bool = False,
    ) -> None:
        plain = message is not None and not json_str
        body = message if plain else json.dumps({} if message is None else message)
        super().__init__(body, status_code, {"x-ms-run-function-failed": str(run_function_failed)})
        given = {name.lower() for name in response_headers or {}}
        if "content-type" not in given or not plain:
            self.headers["Content-Type"] = _HTML if plain else JSON.decode()
        for name, value in (response_headers or {}).items():
            if plain or name.lower() != "content-type":
                self.headers[name] = value

    @property
    def status_code(self) -> int:
        return self.status

    @property
    def data(self) -> bytes:
        return self.body

    def get_data(self) -> bytes:
        return self.body

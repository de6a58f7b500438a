"""Requests, responses and flows: the half of the SDK that both clients share.

A flow is a generator that yields what should happen next (a Request, or a Sleep) and is sent the Response. It holds
all the rules and does no network I/O; `client` and `aio` only differ in how they carry a step out.
"""

import inspect
import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args
from urllib.parse import quote, urlencode

from argosy.errors import SystemFailure, error_from_body
from argosy.records import Page, decode

T = TypeVar("T")
CHUNK_BYTES = 1 << 20
_PAGE_ITEMS = 500


@dataclass(frozen=True)
class Request:
    """`path` lies below the control plane's URL, or is a whole URL (a service behind the gateway, without our token).

    At most one of `json`, `content` and `upload` is set. `sink` gets the body of a 2xx answer piece by piece instead
    of Response.content. `on_sent` is told how many bytes of `upload` have gone out. `timeout_s` bounds each single
    wait for the network, None waits for ever. `repeatable` requests are sent again when a connection breaks.
    """

    method: str
    path: str
    query: Mapping[str, str | int | None] = field(default_factory=dict)
    json: Any = None
    content: bytes | None = None
    upload: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    sink: Callable[[bytes], object] | None = None
    on_sent: Callable[[int], object] | None = None
    timeout_s: float | None = 60.0
    repeatable: bool = False
    ca_file: str | None = None

    @property
    def external(self) -> bool:
        """Goes to a whole URL rather than to the control plane."""
        return not self.path.startswith("/")

    @property
    def target(self) -> str:
        """Path and query as they are sent."""
        query = {key: value for key, value in self.query.items() if value is not None}
        return self.path + (f"?{urlencode(query)}" if query else "")

    def body(self) -> bytes | None:
        """The bytes to send; None when there is no body or `upload` is it."""
        if self.json is not None:
            return json.dumps(self.json, ensure_ascii=False, allow_nan=False).encode()
        return self.content

    def all_headers(self, token: str | None) -> dict[str, str]:
        """Our own headers below the given ones; the token only where it belongs."""
        headers = {"Accept": "*/*", "User-Agent": "argosy"}
        if self.json is not None:
            headers["Content-Type"] = "application/json"
        elif self.upload is not None:
            headers["Content-Type"] = "application/octet-stream"
        if token and not self.external:
            headers["Authorization"] = f"Bearer {token}"
        return headers | dict(self.headers)

    @property
    def safe_to_repeat(self) -> bool:
        return self.repeatable or self.method == "GET"


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class Response:
    """`headers` have lower-case names."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""

    def json(self) -> Any:
        try:
            return json.loads(self.content)
        except ValueError:
            raise foreign(self) from None


Step = Request | Sleep
Flow = Generator[Step, Response, T]


def foreign(response: Response) -> SystemFailure:
    """The error when what answered does not speak our API."""
    return SystemFailure(
        f"The answer (HTTP {response.status}) is not from an Argosy control plane. "
        "Another program listens at that address: check ARGOSY_URL, or `argosy status`."
    )


def check(response: Response) -> Response:
    """The response itself, or the error it carries."""
    if 200 <= response.status < 300:
        return response
    try:
        body = json.loads(response.content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        text = response.content[:200].decode("utf-8", "replace").strip()
        body = {
            "error": {"message": f"The server answered with HTTP {response.status}" + (f": {text}" if text else "")}
        }
    raise error_from_body(response.status, body)


def call(request: Request) -> Flow[Response]:
    """Send it; raises the error of a refused request."""
    response = yield request
    return check(response)


def call_json(request: Request) -> Flow[Any]:
    response = yield from call(request)
    return response.json()


def call_record(record: type[T], request: Request) -> Flow[T]:
    response = yield from call(request)
    return read(record, response)


def read(record: type[T], response: Response) -> T:
    try:
        return decode(record, response.json())
    except (TypeError, KeyError, AttributeError):
        raise foreign(response) from None


def all_pages(record: type[T], path: str, query: Mapping[str, str | int | None] | None = None) -> Flow[list[T]]:
    """Every item of a list, however many pages it has."""
    items: list[T] = []
    cursor: str | None = None
    while True:
        parameters = {**(query or {}), "limit": _PAGE_ITEMS, "cursor": cursor}
        response = yield from call(Request("GET", path, query=parameters))
        page: Page[Any] = read(Page, response)
        items += [decode(record, item) for item in page.items]
        if not page.next or page.next == cursor:
            return items
        cursor = page.next


def path_of(*segments: str | int) -> str:
    """`/v1/...` with every segment quoted, so that a name cannot reach another path."""
    return "/v1/" + "/".join(quote(str(segment), safe="") for segment in segments)


def method_signature(flow: Callable[..., Any]) -> inspect.Signature:
    """The signature of a method that carries out `flow`, for help() and editors: `self` stands before the rest."""
    own = inspect.signature(flow)
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    answer = get_args(own.return_annotation)[-1]
    return own.replace(parameters=[first, *own.parameters.values()], return_annotation=answer)

"""What the callers of a service need: its keys, its usage, a first request, its logs, and waiting for it."""

import json
import time
from collections.abc import Iterator
from typing import Any

from argosy.errors import DeployFailed, InvalidOption, TimedOut
from argosy.records import Service, ServiceKeys, ServiceUsage, check_name
from argosy.sdk import operations, services
from argosy.sdk.operations import OnMessage
from argosy.sdk.wire import Flow, Request, Response, Sleep, call_record, check, path_of

_POLL_S = 0.5
# Over a service's own time-out the service answers 504 itself, which says more than a broken connection.
_MARGIN_S = 15.0


def keys(name: str) -> Flow[ServiceKeys]:
    return (yield from call_record(ServiceKeys, Request("GET", _path(name, "keys"))))


def regenerate_key(name: str, which: str) -> Flow[ServiceKeys]:
    """Replace the `primary` or the `secondary` key. The old one is refused from then on."""
    if which not in ("primary", "secondary"):
        raise InvalidOption("the key", which, "choose primary or secondary")
    return (yield from call_record(ServiceKeys, Request("POST", _path(name, "keys", which))))


def usage(name: str) -> Flow[ServiceUsage]:
    return (yield from call_record(ServiceUsage, Request("GET", _path(name, "usage"))))


def run(name: str, data: Any = None, *, content_type: str | None = None, timeout_s: float | None = None) -> Flow[Any]:
    """Score `data` through the gateway with the service's key, and answer what the service answers.

    `data` is a JSON value, or str or bytes that are sent as they are; None sends the stored sample. A JSON answer is
    decoded, any other comes as bytes. Raises the service's own error for every status but 2xx. `timeout_s` defaults
    to a little over the service's own.
    """
    how = yield from usage(name)
    key = (yield from keys(name)).primary
    if timeout_s is None:
        timeout_s = (yield from services.show(name)).settings.request_timeout_ms / 1000 + _MARGIN_S
    if data is None and how.sample is None:
        raise InvalidOption("the data", None, f"service {name} has no stored sample, so say what to send")
    response = yield Request(
        "POST",
        how.scoring_url,
        content=_body(how.sample if data is None else data),
        headers={
            "Authorization": f"Bearer {key}",
            "Content-Type": content_type
            or ("application/octet-stream" if isinstance(data, bytes) else "application/json"),
        },
        timeout_s=timeout_s,
        ca_file=how.ca_file,
    )
    return answer(check(response))


def _body(data: Any) -> bytes:
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return data.encode()
    try:
        return json.dumps(data, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as problem:
        raise InvalidOption("the data", type(data).__name__, f"it is not a JSON value: {problem}") from None


def answer(response: Response) -> Any:
    """The JSON value of a JSON answer, else its bytes."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return response.json()
    return response.content


def wait(name: str, timeout_s: float = 600.0, on_message: OnMessage | None = None) -> Flow[Service]:
    """Until nothing works on the service any more and it is healthy, or stopped because it is scaled to none.

    Raises the error of an operation that fails meanwhile, DeployFailed when the service has failed, and TimedOut after
    `timeout_s`.
    """
    deadline, told = time.monotonic() + timeout_s, ""
    newest = yield from operations.newest(f"service/{name}")
    if newest is not None and not newest.done:
        yield from operations.wait(newest.id, timeout_s, on_message)
    while True:
        service = yield from services.show(name)
        if service.state in ("healthy", "stopped"):
            return service
        if service.state == "failed":
            raise DeployFailed(f"Service {name} has failed: {service.reason} `argosy service logs {name}` says more.")
        text = f"{service.state}: {service.reason}" if service.reason else service.state
        if text != told and on_message:
            on_message(text)
        told = text
        if time.monotonic() >= deadline:
            raise TimedOut(f"Waiting for service {name} ({text})", timeout_s)
        yield Sleep(_POLL_S)


def log_request(name: str, lines: int | None, request_id: str | None, follow: bool) -> Request:
    """A followed log is silent while nothing is logged, so nothing bounds the wait for its next line."""
    query = {"lines": lines, "request_id": request_id, "follow": "true" if follow else None}
    return Request("GET", _path(name, "logs"), query=query, timeout_s=None if follow else 60.0)


class LogLines:
    """Cuts pieces of a stream into lines, and lines into log records."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[dict[str, Any]]:
        *whole, self._rest = (self._rest + piece).split(b"\n")
        yield from (log_line(line) for line in whole if line.strip())

    def end(self) -> Iterator[dict[str, Any]]:
        if self._rest.strip():
            yield log_line(self._rest)
        self._rest = b""


def log_line(line: bytes) -> dict[str, Any]:
    """A log record; a line that is none (a crash of the interpreter, say) becomes the message of one."""
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    return record if isinstance(record, dict) else {"message": line.decode("utf-8", "replace")}


def _path(name: str, *rest: str) -> str:
    return path_of("services", check_name("service", name), *rest)

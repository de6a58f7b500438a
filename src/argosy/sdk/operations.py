"""Long jobs of the control plane: accepted with 202, then watched until they are done."""

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

from argosy.errors import ConnectionLost, Error, NotRunning, SystemFailure, TimedOut, error_from_body
from argosy.records import Operation, decode
from argosy.sdk.wire import Flow, Request, Sleep, all_pages, call_json, call_record, path_of

OnMessage = Callable[[str], object]
_LONG_POLL_S = 20
# Longer than a control plane takes to come back: an operation survives its restart, so waiting for it does too.
_PATIENCE_S = 60.0


def list_all(subject: str | None = None, state: str | None = None) -> Flow[list[Operation]]:
    """Newest first; `subject` is what they work on, such as `service/iris`; `state` as in Operation."""
    return (yield from all_pages(Operation, path_of("operations"), {"subject": subject, "state": state}))


def show(operation_id: str) -> Flow[Operation]:
    return (yield from call_record(Operation, Request("GET", path_of("operations", operation_id))))


def wait(operation_id: str, timeout_s: float | None = None, on_message: OnMessage | None = None) -> Flow[Operation]:
    """Until the operation is done; raises its own error when it failed, TimedOut after `timeout_s`.

    `on_message` gets each line of progress once. A control plane that is restarted meanwhile is waited for.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    seen, silent_since = 0, None
    while True:
        wait_s = _LONG_POLL_S if deadline is None else max(0, min(_LONG_POLL_S, int(deadline - time.monotonic())))
        request = Request("GET", path_of("operations", operation_id), query={"wait_s": wait_s, "seen": seen})
        try:
            operation = yield from call_record(Operation, request)
        except (NotRunning, ConnectionLost):
            silent_since = silent_since or time.monotonic()
            if time.monotonic() - silent_since > _PATIENCE_S:
                raise
            yield Sleep(1.0)
            continue
        silent_since = None
        for message in operation.messages[seen:]:
            if on_message:
                on_message(message)
        seen = max(seen, len(operation.messages))
        if operation.done:
            return succeeded(operation)
        if deadline is not None:
            if time.monotonic() >= deadline:
                raise TimedOut(f"{operation.kind} of {operation.subject}", timeout_s or 0.0)
            yield Sleep(0.1)


def start(request: Request, wait_for_it: bool, on_message: OnMessage | None = None) -> Flow[Operation]:
    """Send a request that is answered with an operation, and wait for it when asked to."""
    operation = yield from call_record(Operation, request)
    return (yield from follow(operation, wait_for_it, on_message))


def newest(subject: str) -> Flow[Operation | None]:
    """The last operation on `service/iris` and the like, None when there was none."""
    page = yield from call_json(Request("GET", path_of("operations"), query={"subject": subject, "limit": 1}))
    return decode(Operation, page["items"][0]) if page["items"] else None


def follow(operation: Operation, wait_for_it: bool, on_message: OnMessage | None) -> Flow[Operation]:
    if not wait_for_it:
        return operation
    return (yield from wait(operation.id, None, on_message))


def once() -> dict[str, str]:
    """A fresh Idempotency-Key: a request that is sent again after a broken connection starts nothing twice."""
    return {"Idempotency-Key": secrets.token_hex(16)}


def succeeded(operation: Operation) -> Operation:
    """The operation itself; raises the error of one that did not succeed."""
    if operation.state == "succeeded":
        return operation
    if operation.error:
        raise error_of(operation.error)
    raise SystemFailure(
        f"The operation {operation.kind} of {operation.subject} was {operation.state}"
        + (f": {operation.message}" if operation.message else "."),
        {"operation": operation.id},
    )


def error_of(body: dict[str, Any]) -> Error:
    """An operation's error, with the status (and so the exit code) that its code has in our tree of errors."""
    code = str(body.get("code") or "")
    otherwise = 404 if code.endswith("_not_found") else 500
    status = next((kind.status for kind in _tree(Error) if kind.code == code), otherwise)
    return error_from_body(status, {"error": body})


def _tree(root: type[Error]) -> Iterator[type[Error]]:
    yield root
    for kind in root.__subclasses__():
        yield from _tree(kind)

"""The control plane itself."""

from typing import Any

from argosy.records import Operation, Status
from argosy.sdk import operations
from argosy.sdk.operations import OnMessage
from argosy.sdk.wire import Flow, Request, call, call_json, call_record, path_of


def status() -> Flow[Status]:
    return (yield from call_record(Status, Request("GET", path_of("status"), timeout_s=10.0)))


def doctor() -> Flow[dict[str, Any]]:
    """`{"checks": [{"name", "state": "ok|warn|fail", "message"}]}`, seen from the control plane."""
    return dict((yield from call_json(Request("GET", path_of("doctor")))))


def shutdown(services: bool = True) -> Flow[None]:
    """Stop the control plane, and with `services` all replicas and the gateway; answered before it is done."""
    yield from call(Request("POST", path_of("shutdown"), json={"services": services}))


def gc(*, dry_run: bool = False, wait: bool = True, on_message: OnMessage | None = None) -> Flow[Operation]:
    """Delete what no image, service, tag, model or work under way needs; the result is `{"freed": [{"what", "name",
    "size_bytes"}], "size_bytes"}`. With `dry_run` only say what that would be."""
    request = Request("POST", path_of("gc"), json={"dry_run": dry_run}, headers=operations.once(), repeatable=True)
    return (yield from operations.start(request, wait, on_message))

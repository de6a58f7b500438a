"""The control plane itself."""

from typing import Any

from argosy.records import Status
from argosy.sdk.wire import Flow, Request, call, call_json, call_record, path_of


def status() -> Flow[Status]:
    return (yield from call_record(Status, Request("GET", path_of("status"), timeout_s=10.0)))


def doctor() -> Flow[dict[str, Any]]:
    """`{"checks": [{"name", "state": "ok|warn|fail", "message"}]}`, seen from the control plane."""
    return dict((yield from call_json(Request("GET", path_of("doctor")))))


def shutdown(services: bool = True) -> Flow[None]:
    """Stop the control plane, and with `services` all replicas and the gateway; answered before it is done."""
    yield from call(Request("POST", path_of("shutdown"), json={"services": services}))

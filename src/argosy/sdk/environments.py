"""Environments: where services run."""

from argosy.records import Environment, check_name
from argosy.sdk.wire import Flow, Request, all_pages, call, call_record, path_of


def create(name: str, kind: str = "process") -> Flow[Environment]:
    body = {"name": check_name("environment", name), "kind": kind}
    return (yield from call_record(Environment, Request("POST", path_of("environments"), json=body)))


def list_all() -> Flow[list[Environment]]:
    return (yield from all_pages(Environment, path_of("environments")))


def show(name: str) -> Flow[Environment]:
    path = path_of("environments", check_name("environment", name))
    return (yield from call_record(Environment, Request("GET", path)))


def delete(name: str) -> Flow[None]:
    yield from call(Request("DELETE", path_of("environments", check_name("environment", name))))

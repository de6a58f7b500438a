"""Environments: where services run."""

from argosy.records import Check, Environment, check_name
from argosy.sdk.wire import Flow, Request, all_pages, call, call_record, path_of


def create(name: str, kind: str = "process", *, engine: str = "") -> Flow[Environment]:
    """`kind` is process or container. `engine` is the socket of Docker or Podman, such as
    `unix:///run/podman/podman.sock`; the first one that answers by default."""
    body = {"name": check_name("environment", name), "kind": kind} | ({"engine": engine} if engine else {})
    return (yield from call_record(Environment, Request("POST", path_of("environments"), json=body)))


def list_all() -> Flow[list[Environment]]:
    return (yield from all_pages(Environment, path_of("environments")))


def show(name: str) -> Flow[Environment]:
    path = path_of("environments", check_name("environment", name))
    return (yield from call_record(Environment, Request("GET", path)))


def use(name: str) -> Flow[Environment]:
    """Let services that name no environment go there."""
    path = path_of("environments", check_name("environment", name), "use")
    return (yield from call_record(Environment, Request("POST", path)))


def check(name: str) -> Flow[list[Check]]:
    """Whether everything that replicas need there is at hand, looked at now."""
    return (yield from all_pages(Check, path_of("environments", check_name("environment", name), "check")))


def delete(name: str) -> Flow[None]:
    yield from call(Request("DELETE", path_of("environments", check_name("environment", name))))

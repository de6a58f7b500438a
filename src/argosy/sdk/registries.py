"""Container registries: who we are there."""

from argosy.records import RegistryLogin
from argosy.sdk.wire import Flow, Request, all_pages, call, call_record, path_of


def login(host: str, username: str = "", password: str = "", *, plain_http: bool = False) -> Flow[RegistryLogin]:
    """Try it at `host[:port]`, and keep it when the registry accepts it. `plain_http` allows a registry without TLS."""
    body = {"username": username, "password": password, "plain_http": plain_http}
    return (yield from call_record(RegistryLogin, Request("POST", path_of("registries", host), json=body)))


def list_all() -> Flow[list[RegistryLogin]]:
    """All logins, without their passwords."""
    return (yield from all_pages(RegistryLogin, path_of("registries")))


def logout(host: str) -> Flow[None]:
    yield from call(Request("DELETE", path_of("registries", host)))

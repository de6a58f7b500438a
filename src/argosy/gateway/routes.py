"""The route table: which servers stand behind which service. What the gateway is told, and nothing of how it obeys."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from argosy.errors import GatewayFailed
from argosy.records import check_name

# The backup server of a service that has `hold`. No replica is named so.
HOLD = "hold"
# What may stand in HAProxy's file and on its command line: no white space, quotes, `#`, `;` or backslash.
_SERVER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,126}")
_ADDRESS = re.compile(r"unix@/[A-Za-z0-9._/@+~=,-]+|[A-Za-z0-9._-]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}")


@dataclass(frozen=True)
class Server:
    """One replica. `name` is unique per replica and never used again; `address` is `unix@/path` or `host:port`."""

    name: str
    address: str


@dataclass(frozen=True)
class Route:
    """A service and the servers that take its requests.

    `timeout_ms` is the service's request timeout. `max_connections` bounds what HAProxy sends to one server at once;
    it is a guard, 4 x (capacity + queue) + 64, since shedding is decided in the replica. Beyond it HAProxy itself
    refuses with `overload_status`. `hold` is the address that takes requests while no server does; without it they are
    answered with 503.
    """

    service: str
    servers: tuple[Server, ...]
    timeout_ms: int
    max_connections: int
    hold: str | None = None
    overload_status: int = 429


def checked(routes: Sequence[Route]) -> tuple[Route, ...]:
    """The routes sorted by service. Raises GatewayFailed for a table that cannot be written into HAProxy's file."""
    ordered = tuple(sorted(routes, key=lambda route: route.service))
    if len({route.service for route in ordered}) < len(ordered):
        raise GatewayFailed("The route table names a service twice.")
    for route in ordered:
        check_name("service", route.service)
        if route.timeout_ms < 1 or route.max_connections < 1:
            raise GatewayFailed(f"The route of service {route.service} has a limit below 1: {route}.")
        names = [server.name for server in route.servers]
        if len(set(names)) < len(names):
            raise GatewayFailed(f"The route of service {route.service} names a server twice.")
        for server in route.servers:
            usable = _SERVER_NAME.fullmatch(server.name) and server.name != HOLD
            if not usable or not _ADDRESS.fullmatch(server.address):
                raise GatewayFailed(f"Service {route.service} has a server that HAProxy cannot take: {server}.")
        if route.hold is not None and not _ADDRESS.fullmatch(route.hold):
            raise GatewayFailed(f"Service {route.service} cannot be held at {route.hold}.")
    return ordered

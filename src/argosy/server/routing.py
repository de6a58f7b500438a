"""Carries the reconciler's routes to the gateway: the two know nothing of each other."""

from collections.abc import Mapping
from pathlib import Path

from argosy.gateway.gateway import Gateway
from argosy.gateway.routes import Route, Server
from argosy.services.routes import ServiceRoute


class GatewayRouter:
    """The reconciler's `Router`, by HAProxy. `hold` is the socket that takes requests for services that sleep."""

    def __init__(self, gateway: Gateway, hold: Path) -> None:
        self._gateway, self._hold = gateway, hold

    def apply(self, routes: Mapping[str, ServiceRoute]) -> None:
        self._gateway.apply(table(routes, self._hold))

    def ensure_running(self, routes: Mapping[str, ServiceRoute]) -> None:
        self._gateway.ensure_running(table(routes, self._hold))

    def in_use(self, service: str, replica: str) -> int:
        return self._gateway.in_use(service, replica)


def table(routes: Mapping[str, ServiceRoute], hold: Path) -> list[Route]:
    return [
        Route(
            route.service,
            tuple(Server(replica, address) for replica, address in route.servers),
            route.timeout_ms,
            route.max_connections,
            f"unix@{hold}" if route.on_demand else None,
            route.overload_status,
        )
        for route in routes.values()
    ]

"""Carries the reconciler's routes to the gateway: the two know nothing of each other."""

from collections.abc import Mapping

from argosy.gateway.gateway import Gateway
from argosy.gateway.routes import Route, Server
from argosy.services.routes import ServiceRoute


class GatewayRouter:
    """The reconciler's `Router`, by HAProxy."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def apply(self, routes: Mapping[str, ServiceRoute]) -> None:
        self._gateway.apply(table(routes))

    def in_use(self, service: str, replica: str) -> int:
        return self._gateway.in_use(service, replica)


def table(routes: Mapping[str, ServiceRoute]) -> list[Route]:
    return [
        Route(
            route.service,
            tuple(Server(replica, address) for replica, address in route.servers),
            route.timeout_ms,
            route.max_connections,
        )
        for route in routes.values()
    ]

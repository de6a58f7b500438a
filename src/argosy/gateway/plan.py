"""What to tell a running HAProxy so that its servers become those of the route table. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from argosy.gateway.config import backend_of, server_options
from argosy.gateway.master import ServerState
from argosy.gateway.routes import Route


@dataclass(frozen=True)
class Step:
    """One runtime command and what its answer must hold ("" when it must be empty)."""

    command: str
    expected: str = ""

    def obeyed(self, answer: str) -> bool:
        return self.expected in answer if self.expected else not answer.strip()


def steps(routes: Sequence[Route], servers: Sequence[ServerState], limits: Mapping[tuple[str, str], int]) -> list[Step]:
    """Towards `routes`: what came is added first, then what left is drained.

    `limits` are the guards (`max_connections`) that servers have now, by service and server name.
    """
    have = {(server.service, server.name): server for server in servers}
    plan: list[Step] = []
    for route in routes:
        for server in route.servers:
            where = f"{backend_of(route.service)}/{server.name}"
            known = have.get((route.service, server.name))
            if known is None:
                add = f"add server {where} {server.address} {server_options(route)}"
                # A new dynamic server is in maintenance and unchecked; the caller has seen that it is ready.
                plan += [Step(add, "New server registered"), Step(f"enable health {where}")]
                plan.append(Step(f"enable server {where}"))
                continue
            if known.draining:
                plan.append(Step(f"set server {where} state ready"))
            if limits.get((route.service, server.name), route.max_connections) != route.max_connections:
                plan.append(Step(f"set maxconn server {where} {route.max_connections}"))
    for state in departed(routes, servers):
        if not state.draining:
            plan.append(Step(f"set server {backend_of(state.service)}/{state.name} state drain"))
    return plan


def mismatch(routes: Sequence[Route], servers: Sequence[ServerState]) -> str:
    """Why `servers` are not those of the table, "" when they are. Departed servers may linger while they drain."""
    taking = {(server.service, server.name) for server in servers if not server.draining}
    wanted = {(route.service, server.name) for route in routes for server in route.servers}
    problems = [
        *(f"{service}/{name} is missing" for service, name in sorted(wanted - taking)),
        *(f"{service}/{name} still takes requests" for service, name in sorted(taking - wanted)),
    ]
    return ", ".join(problems)


def departed(routes: Sequence[Route], servers: Sequence[ServerState]) -> list[ServerState]:
    """Servers that only wait for their last request, to be deleted then."""
    wanted = {(route.service, server.name) for route in routes for server in route.servers}
    return [server for server in servers if (server.service, server.name) not in wanted]

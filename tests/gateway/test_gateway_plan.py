"""What a running HAProxy is told, and how its answers are read."""

import pytest

from argosy.errors import GatewayFailed
from argosy.gateway.master import (
    Processes,
    ServerState,
    parse_info,
    parse_processes,
    parse_servers,
    parse_statistics,
)
from argosy.gateway.plan import Step, departed, mismatch, steps
from argosy.gateway.routes import Route, Server

A, B = Server("a", "unix@/a"), Server("b", "unix@/b")


def state(name: str, draining: bool = False, disabled: bool = False) -> ServerState:
    return ServerState("iris", name, draining, disabled, up=True)


def iris(*servers: Server, guard: int = 108) -> Route:
    return Route("iris", servers, 60_000, guard)


def commands(plan: list[Step]) -> list[str]:
    return [" ".join(step.command.split()[:5]) for step in plan]


@pytest.mark.parametrize(
    ("route", "servers", "guard", "expected"),
    [
        (iris(A), [state("a")], 108, []),
        (iris(), [], 108, []),
        (iris(), [state("a", draining=True)], 108, []),
        (iris(A), [state("a", draining=True)], 108, ["set server service_iris/a state ready"]),
        (iris(), [state("a")], 108, ["set server service_iris/a state drain"]),
        (iris(A), [state("a")], 50, ["set maxconn server service_iris/a 108"]),
        (
            iris(B),
            [state("a")],
            108,
            [
                "add server service_iris/b unix@/b maxconn",
                "enable health service_iris/b",
                "enable server service_iris/b",
                "set server service_iris/a state drain",
            ],
        ),
    ],
)
def test_steps(route: Route, servers: list[ServerState], guard: int, expected: list[str]) -> None:
    assert commands(steps([route], servers, {("iris", "a"): guard})) == expected


def test_servers_of_a_service_that_is_gone_are_drained() -> None:
    assert commands(steps([], [state("a")], {})) == ["set server service_iris/a state drain"]


def test_a_mismatch_names_the_servers() -> None:
    assert mismatch([iris(A)], [state("a"), state("b", draining=True)]) == ""
    assert mismatch([iris(A, B)], [state("b", draining=True), state("c")]) == (
        "iris/a is missing, iris/b is missing, iris/c still takes requests"
    )


def test_departed_servers_wait_for_their_last_request() -> None:
    assert departed([iris(A)], [state("a"), state("b", draining=True)]) == [state("b", draining=True)]


def test_an_answer_is_obedience_only_when_it_says_so() -> None:
    assert Step("enable server x").obeyed("\n")
    assert not Step("enable server x").obeyed("No such server.")
    assert Step("add server x", "New server registered").obeyed("New server registered.")
    assert not Step("add server x", "New server registered").obeyed("Already exists a server with the same name.")


PROCESSES = """#<PID>          <type>          <reloads>       <uptime>        <version>
31318           master          3 [failed: 0]   0d00h00m03s     2.6.12
# workers
31325           worker          0               0d00h00m00s     2.6.12
# old workers
31320           worker          2               0d00h00m03s     2.6.12
31322           worker          1               0d00h00m01s     2.6.12
# programs

"""


def test_processes_are_read_with_the_latest_retired_first() -> None:
    assert parse_processes(PROCESSES) == Processes(31318, (31325,), (31322, 31320))


SERVERS = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight
3 service_iris 1 a - 2 0 1
3 service_iris 2 b - 2 8 1
3 service_iris 3 c - 0 1 1
4 relay 1 current - 2 0 1
"""


def test_servers_are_read_with_their_administrative_state() -> None:
    assert parse_servers(SERVERS) == [
        ServerState("iris", "a", draining=False, disabled=False, up=True),
        ServerState("iris", "b", draining=True, disabled=False, up=True),
        ServerState("iris", "c", draining=True, disabled=True, up=False),
    ]


def test_statistics_are_read_by_column() -> None:
    assert parse_statistics("# pxname,svname,scur,\nservice_iris,a,3,\n")[0]["scur"] == "3"
    assert parse_statistics("Can't find process") == []


@pytest.mark.parametrize("text", ["", "Permission denied", "# workers"])
def test_nonsense_is_no_answer(text: str) -> None:
    for parse in (parse_processes, parse_info, parse_servers):
        with pytest.raises(GatewayFailed):
            parse(text)

"""The cost of a request, relative to a bare application in the same minute: a ratio of CPU times, no time."""

import pytest

from bench.guard import relative_cost

# Measured near 1: what a replica does more than the floor is about paid for by a leaner HTTP protocol. A regression of
# 60 % is past the bound; a neighbour on the machine is not, since the least of several rounds counts.
_BOUND = 1.6
# Burns about as much as the prediction itself.
_SLOWER = """
_run = run

def run(x):
    for _ in range(20_000):
        pass
    return _run(x)
"""


def test_a_request_costs_about_what_the_floor_costs() -> None:
    assert relative_cost("iris") <= _BOUND


def test_a_costly_replica_is_noticed() -> None:
    assert relative_cost("iris", rounds=1, seconds=0.5, script=_SLOWER) > _BOUND


@pytest.mark.parametrize("case", ["noop"])
def test_the_server_alone_costs_about_what_the_floor_costs(case: str) -> None:
    """Without a prediction that hides it."""
    assert relative_cost(case) <= 2.2

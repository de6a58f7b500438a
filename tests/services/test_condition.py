"""A service in one word and one sentence."""

from dataclasses import replace

import pytest

from argosy.environments.target import Observed
from argosy.services.condition import condition
from argosy.services.plan import Desired


def ready(*revisions: int) -> list[Observed]:
    return [Observed(f"r{n}", "iris", revision, "ready", "unix@/r") for n, revision in enumerate(revisions)]


STEADY = Desired("iris", 2, live=1, target=1)
ROLLING = Desired("iris", 2, live=1, target=2)
FIRST = Desired("iris", 2, live=None, target=1)
NEVER = Desired("iris", 2, live=None, target=None)
NONE = Desired("iris", 0, live=1, target=1)
SCALED = Desired("iris", 4, live=1, target=1, least=2)
ASLEEP = Desired("iris", 0, live=1, target=1, least=0)
DELETING = Desired("iris", 2, live=1, target=1, deleting=True)


@pytest.mark.parametrize(
    ("desired", "observed", "failure", "trouble", "expected"),
    [
        (STEADY, ready(1, 1), "", "", ("healthy", "2 of 2 replicas ready")),
        (STEADY, ready(1, 1, 1), "", "", ("healthy", "3 of 2 replicas ready")),
        (STEADY, ready(1, 1), "killed", "", ("healthy", "2 of 2 replicas ready")),
        (STEADY, ready(1, 1), "", "no gateway", ("degraded", "2 of 2 replicas ready, but: no gateway")),
        (STEADY, ready(1), "", "", ("degraded", "1 of 2 replicas ready")),
        (STEADY, ready(1), "killed", "", ("degraded", "1 of 2 replicas ready: killed")),
        (STEADY, ready(1), "killed", "no room", ("degraded", "1 of 2 replicas ready: killed: no room")),
        (STEADY, ready(2, 2), "killed", "", ("failed", "0 of 2 replicas ready: killed")),
        (STEADY, [], "", "", ("deploying", "0 of 2 replicas ready, the others start")),
        (STEADY, [], "", "no room", ("deploying", "0 of 2 replicas ready, no room")),
        (ROLLING, ready(1, 1, 2), "", "", (
            "deploying", "revision 2: 1 of 2 replicas ready; revision 1 answers meanwhile",
        )),
        (ROLLING, ready(2), "", "no gateway", ("deploying", "revision 2: 1 of 2 replicas ready; no gateway")),
        (FIRST, [], "", "", ("deploying", "revision 1: 0 of 2 replicas ready")),
        (Desired("iris", 0, None, 1), [], "", "", ("deploying", "revision 1: 0 of 1 replicas ready")),
        (NEVER, [], "init() raised", "", ("failed", "init() raised")),
        (NEVER, [], "", "", ("failed", "no revision of this service has ever been ready")),
        (NONE, [], "", "", ("stopped", "scaled to 0 replicas")),
        (SCALED, ready(1, 1), "", "", ("healthy", "2 of 4 replicas ready, the others start")),
        (SCALED, ready(1), "", "", ("degraded", "1 of 4 replicas ready")),
        (SCALED, ready(1, 1), "killed", "", ("degraded", "2 of 4 replicas ready: killed")),
        (ASLEEP, [], "", "", ("healthy", "scaled to zero, the next request starts a replica")),
        (ASLEEP, [], "killed", "", (
            "degraded", "scaled to zero, the next request starts a replica; the last one failed: killed",
        )),
        (replace(ASLEEP, replicas=1), [], "", "", ("deploying", "0 of 1 replicas ready, the others start")),
        (DELETING, ready(1), "", "", ("stopped", "being deleted, 1 replicas left")),
    ],
)  # fmt: skip
def test_conditions(
    desired: Desired, observed: list[Observed], failure: str, trouble: str, expected: tuple[str, str]
) -> None:
    found = condition(desired, observed, failure, trouble)
    assert (found.state, found.reason) == expected

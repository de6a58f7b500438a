"""B11: from `argosy service create` to the first answer, where the environment is known already."""

import time
from typing import Any

from bench import argosy_rows, connections
from bench.budgets.idle import script_ready_s
from bench.cases import CASES
from bench.results import middle
from bench.servers import scratch


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    case = CASES["iris"]
    ours, bare = [], []
    with scratch() as folder, argosy_rows.home(folder) as home:
        home.create(case, "first")  # makes the environment
        for number in range(rounds):
            bare.append(script_ready_s())
            name = f"timed-{number}"
            began = time.monotonic()
            home.create(case, name)
            created_s = time.monotonic() - began
            target = home.target(case, name)
            asked = time.monotonic()
            connections.wait_until_answered(target, lambda: True, 60)
            ours.append(created_s + time.monotonic() - asked)
            home.run("service", "delete", name, "--yes")
    # The budget allows one and a half times the script's start and one second.
    return {
        "ratio": middle([mine / script for mine, script in zip(ours, bare, strict=True)]),
        "of_allowed": middle([mine / (1.5 * script + 1) for mine, script in zip(ours, bare, strict=True)]),
    }

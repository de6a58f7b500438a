"""B3a: N replicas on N cores against N times one of them on one core, with a model that uses OpenMP."""

import contextlib
import os
import statistics
from pathlib import Path
from typing import Any

from bench import argosy_rows, closed_loop, connections, machine, process_tree
from bench.cases import CASES
from bench.connections import Target
from bench.peers import model_environ
from bench.servers import scratch


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """The load generator runs on the same cores in both, and takes its share from both."""
    cores = machine.CORES
    if len(cores) < 2:
        raise RuntimeError("needs two cores")
    os.sched_setaffinity(0, cores)
    try:
        found = [_spread(cores, seconds) / (len(cores) * _spread(cores[:1], seconds)) for _ in range(rounds)]
    finally:
        machine.pin_client()
    return {"ratio": statistics.median(found), "replicas": len(cores)}


def _spread(cores: list[int], seconds: float) -> float:
    """Requests per second of one replica on each of `cores`, all asked at once."""
    case = CASES["rows"]
    with contextlib.ExitStack() as stack:
        targets: list[Target] = []
        for core in cores:
            folder = Path(stack.enter_context(scratch()))
            start = argosy_rows.prepare_replica(folder, case, overload=False)
            environ = {**machine.clean_environ(**model_environ(case)), **start.environ}
            tree = process_tree.start(start.argv, environ, folder, [core])
            stack.callback(tree.stop)
            connections.wait_until_answered(start.target, tree.is_alive, 60)
            targets.append(start.target)
        for target in targets:
            closed_loop.run(target, 4, 1.0)
        return sum(closed_loop.together(targets, 8, seconds))

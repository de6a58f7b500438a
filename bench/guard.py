"""The regression guard: CPU per request of a replica over the floor's, from this very Python, in short rounds.

CPU time and not wall time, both sides in turn, and of each the least: neighbours can only add to it.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from bench import argosy_rows, closed_loop, connections, environments, machine, process_tree
from bench.cases import CASES, Case
from bench.connections import Target
from bench.peers import PEERS
from bench.process_tree import Tree
from bench.servers import scratch


def relative_cost(
    name: str = "iris", count: int = 16, rounds: int = 5, seconds: float = 1.0, script: str = ""
) -> float:
    """The ratio at `count` connections. `script` is appended to the replica's scoring script."""
    case = CASES[name]
    with _floor(case) as floor, _replica(case, script) as replica:
        least = [float("inf"), float("inf")]
        for number in range(rounds + 1):
            for place, side in enumerate((floor, replica)):
                cost = _cost(*side, count, seconds)
                if number:  # the first round warms up
                    least[place] = min(least[place], cost)
    return least[1] / least[0]


def _cost(tree: Tree, target: Target, count: int, seconds: float) -> float:
    before = tree.cpu_s()
    seen = closed_loop.own(target, count, seconds)
    if seen.failed or not seen.answered:
        raise RuntimeError(f"answers other than 200: {dict(seen.outcomes)}")
    return (tree.cpu_s() - before) / seen.answered


@contextlib.contextmanager
def _floor(case: Case) -> Iterator[tuple[Tree, Target]]:
    with scratch() as folder:
        command = PEERS["floor"].prepare(Path(sys.executable), folder, case)
        target = Target(command.port, "/", PEERS["floor"].encoded(case))
        with _running(list(command.argv), {}, folder, case, target) as tree:
            yield tree, target


@contextlib.contextmanager
def _replica(case: Case, script: str) -> Iterator[tuple[Tree, Target]]:
    with scratch() as folder:
        start = argosy_rows.prepare_replica(folder, case, overload=False, with_python=Path(sys.executable))
        with (folder / "image" / "code" / "score.py").open("a") as out:
            out.write(script)
        with _running(list(start.argv), dict(start.environ), folder, case, start.target) as tree:
            yield tree, start.target


@contextlib.contextmanager
def _running(
    argv: list[str | Path], environ: dict[str, str], folder: Path, case: Case, target: Target
) -> Iterator[Tree]:
    model = environments.train(case.work, Path(sys.executable), folder / "model.joblib")
    known = {"BENCH_WORK": case.work, "BENCH_DECODE": case.decode, "BENCH_MODEL": str(model)}
    tree = process_tree.start(argv, {**machine.clean_environ(**known), **environ}, folder)
    try:
        connections.wait_until_answered(target, tree.is_alive, 60)
        yield tree
    finally:
        tree.stop()

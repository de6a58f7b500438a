"""`make bench`, or `python -m bench [run|budgets|profile|render|install]`. Without a word: all of them, one by one.

make bench                                            # everything; goes on where an earlier run stopped
make bench BENCH_ARGS="run --case iris --server floor --server argosy --rounds 1 --seconds 1"
make bench BENCH_ARGS="budgets b12 b16"
make bench BENCH_ARGS="budgets many" BENCH_MANY=10x2,20   # fewer services, replicas of each, and replicas of one
make bench BENCH_ARGS=render                          # the page anew from docs/benchmarks/results.json
make bench BENCH_ARGS="--fresh"                       # forget earlier results first
"""

import argparse
import signal
import sys

from bench import budgets, hot_path, machine, report
from bench.cases import CASES
from bench.results import Results
from bench.running import Plan, note_servers, run
from bench.servers import NAMES


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["all", "run", "budgets", "profile", "render", "install"],
                        default="all")  # fmt: skip
    parser.add_argument("budget", nargs="*", help=f"for `budgets`: {', '.join(budgets.MEASURES)}; none means all")
    parser.add_argument("--case", action="append", choices=list(CASES), help="repeatable; none means all")
    parser.add_argument("--server", action="append", choices=list(NAMES), help="repeatable; none means all")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of visits (3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each closed-loop cell (2)")
    parser.add_argument("--connections", type=int, action="append", help="instead of the case's own; repeatable")
    parser.add_argument("--open-rounds", type=int, help="rounds in which open loops are run too; none means all")
    parser.add_argument("--again", action="store_true", help="measure anew what earlier runs have measured")
    parser.add_argument("--fresh", action="store_true", help="forget all earlier results")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers are ended and folders removed
    machine.pin_client()
    results = Results.load()
    if options.fresh:
        results = Results.empty()
    plan = Plan(
        options.case or list(CASES), options.server or list(NAMES), options.rounds, options.seconds,
        options.connections or (), options.again, options.open_rounds,
    )  # fmt: skip
    if options.what == "install":
        note_servers(plan.servers, results)
    if options.what in ("all", "run"):
        run(plan, results)
    if options.what in ("all", "budgets"):
        budgets.measure(options.budget, results, options.rounds, options.seconds, options.again)
    if options.what in ("all", "profile"):
        hot_path.record(results)
    report.render(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())

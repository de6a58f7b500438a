"""docs/benchmarks.md from the raw results: tables, plots, budgets, profile. Needs no run."""

import json
import subprocess
from typing import Any

from bench import argosy_rows, budget_table, environments, machine
from bench.cases import CASES, Case
from bench.markdown import grid, heading, reason, shown
from bench.peers import PEERS
from bench.results import PATH, Results, at, goodput, middle
from bench.servers import NAMES, TITLES

PAGE = machine.ROOT / "docs" / "benchmarks.md"
FOLDER = PATH.parent
_ENOUGH_ROUNDS = 3
_PLOTTING = ("matplotlib==3.10.8",)


def render(results: Results) -> None:
    """Writes the page and the plots. Parts written by hand are included: method.md, why.md, profile-notes.md."""
    parts = [
        "# Benchmarks\n\nWritten by `make bench`; the text by hand is in `docs/benchmarks/`, the raw results in "
        "[results.json](benchmarks/results.json).",
        (FOLDER / "method.md").read_text().strip(),
        _environment(results),
        budget_table.table(results),
        (FOLDER / "why.md").read_text().strip(),
        _closed(results),
        _overload(results),
        _health(results),
        _starts(results),
        _changes(results),
        _profile(results),
    ]
    PAGE.write_text("\n\n".join(part for part in parts if part) + "\n")
    draw(results)


def _environment(results: Results) -> str:
    m = results.data["machine"]
    if not m:
        return ""
    visits = results.data["visits"].values()
    times = sorted(visit["at"] for visit in visits if "at" in visit)
    span = f"{times[0][:10]} to {times[-1][:10]}" if times else "-"
    text = (
        f"Measured {span} on {m['cores']} cores ({m['processor']}), {m['memory_gb']} GB, {m['system']} "
        f"{m['architecture']}, Python {m['python']}; closed loop by {m['generator']}."
    )
    fewest = min((len(results.rounds(case, name)) for case, name in _measured(results)), default=0)
    if fewest < _ENOUGH_ROUNDS:
        text += (
            f" **Some cells come from fewer than {_ENOUGH_ROUNDS} rounds (the last column of each table): "
            "those are a trial of the tool, not a result.**"
        )
    rows = []
    for name in NAMES:
        server = results.data["servers"].get(name, {})
        note = PEERS[name].note if name in PEERS else argosy_rows.NOTES[name]
        libraries = ", ".join(f"{package} {version}" for package, version in server.get("versions", {}).items())
        rows.append([TITLES[name], server.get("version", "-"), server.get("problem", note), libraries or "-"])
    return f"## Servers\n\n{text}\n\n" + grid(["server", "version", "how", "libraries"], rows)


def _measured(results: Results) -> set[tuple[str, str]]:
    """Case and server of every visit that went well."""
    kept = (key.split("/") for key, visit in results.data["visits"].items() if "problem" not in visit)
    return {(case, name) for case, name, _ in kept}


def _closed(results: Results) -> str:
    parts = [
        "## Closed loop\n\nEach connection asks again as soon as it was answered. *x floor* is CPU time per request "
        "over the floor's in the same round: below 1 is cheaper than a bare application that checks nothing. CPU, "
        "requests and latency are data of this machine on that day; compare within a table only."
    ]
    for case in CASES.values():
        if any(results.rounds(case.name, name) for name in NAMES):
            parts.append(f"{heading(case.title)}\n\n{_closed_table(results, case)}")
    parts.insert(1, "![CPU per request over the floor](benchmarks/cpu.svg)")
    return "\n\n".join(parts)


def _closed_table(results: Results, case: Case) -> str:
    seen = {c for name in NAMES for v in results.rounds(case.name, name).values() for c in v["closed"]}
    counts = sorted(seen, key=int)
    head = ["server"]
    for count in counts:
        head += [f"x floor at {count}", f"CPU us at {count}", f"req/s at {count}"]
    head += [f"p50 ms at {counts[0]}", f"p99 ms at {counts[-1]}", "rounds"]
    rows = []
    for name in NAMES:
        if not case.takes(name):
            continue
        problem = results.problem(case.name, name)
        if problem:
            rows.append([TITLES[name], reason(problem), *[""] * (len(head) - 2)])
            continue
        found = results.rounds(case.name, name)
        if not found:
            rows.append([TITLES[name], "not measured", *[""] * (len(head) - 2)])
            continue
        row = [TITLES[name]]
        for count in counts:
            row += [
                shown(results.ratio(case.name, name, "floor", at("closed", count, "cpu_us"))),
                shown(_cell(results, case, name, count, "cpu_us"), 0),
                shown(_cell(results, case, name, count, "per_s"), 1),
            ]
        row += [
            shown(_cell(results, case, name, counts[0], "p50_ms")),
            shown(_cell(results, case, name, counts[-1], "p99_ms"), 1),
            str(len(found)),
        ]
        rows.append(row)
    return grid(head, rows)


def _cell(results: Results, case: Case, name: str, count: str, key: str) -> float | None:
    return results.median(case.name, name, at("closed", count, key))


def _overload(results: Results) -> str:
    parts = []
    for case in CASES.values():
        if case.overload and (text := _overload_table(results, case)):
            parts.append(f"{heading(case.title)}\n\n{text}")
    if not parts:
        return ""
    intro = (
        "## Open loop: calm under overload\n\nRequests come by a schedule at a share of each server's own capacity, "
        "whether or not earlier ones were answered; latency counts from the scheduled moment; a caller leaves "
        "after 5 s. *Goodput* is good answers within the deadline, over capacity. *After* is how long the "
        "next caller waits when all others have left.\n\n![Goodput under overload](benchmarks/goodput.svg)"
    )
    return "\n\n".join([intro, *parts])


def _overload_table(results: Results, case: Case) -> str:
    head = ["server", "load", "goodput 1 s", f"goodput {4 * case.service_s:g} s", "200", "shed", "time-out", "reset",
            "other", "p50 ms", "p99 ms", "p99.9 ms", "shed p50 ms", "after s"]  # fmt: skip
    rows = []
    for name in NAMES:
        for share in ("0.5", "1", "3"):
            found = [visit["open"] for visit in results.rounds(case.name, name).values() if "open" in visit]
            found = [each for each in found if share in each["rates"]]
            if found:
                rows.append([TITLES[name], f"{share}x", *_overload_cells(found, share, case)])
    return grid(head, rows) if rows else ""


def _overload_cells(found: list[dict[str, Any]], share: str, case: Case) -> list[str]:
    cells = [each["rates"][share] for each in found]
    capacities = [each["capacity"] for each in found]

    def mid(key: str) -> float | None:
        return middle([cell[key] for cell in cells if cell[key] is not None])

    def within(deadline: float) -> str:
        return shown(middle([c["goodput"][f"{deadline:g}"] / top for c, top in zip(cells, capacities, strict=True)]))

    def part(*outcomes: str) -> str:
        shares = [sum(c["outcomes"].get(o, 0) for o in outcomes) / max(1, sum(c["outcomes"].values())) for c in cells]
        return f"{100 * (middle(shares) or 0):.1f} %"

    named = {"200", "429", "503", "time-out", "reset"}
    others = {outcome for cell in cells for outcome in cell["outcomes"]} - named
    return [
        within(1.0), within(4 * case.service_s), part("200"), part("429", "503"), part("time-out"), part("reset"),
        part(*others), shown(mid("p50_ms"), 1), shown(mid("p99_ms"), 1), shown(mid("p999_ms"), 1),
        shown(mid("shed_p50_ms"), 1), shown(mid("after_s"), 1),
    ]  # fmt: skip


def _health(results: Results) -> str:
    rows = []
    for name in NAMES:
        for case in CASES.values():
            p50, p99, failed = (
                results.median(case.name, name, at("health", key)) for key in ("p50_ms", "p99_ms", "failed")
            )
            if p50 is not None:
                rows.append([TITLES[name], shown(p50, 1), shown(p99, 1), shown(failed, 0)])
    if not rows:
        return ""
    text = (
        "## Health while a model computes\n\nThe health path, asked every 50 ms while four callers keep a pure-Python "
    )
    text += "model computing 300 ms at a time.\n\n"
    return text + grid(["server", "p50 ms", "p99 ms", "failed"], rows)


def _starts(results: Results) -> str:
    rows = []
    for name in NAMES:
        server = results.data["servers"].get(name, {})
        cold = results.ratio("iris", name, "floor", at("cold_start_s"))
        idle = results.median("iris", name, at("idle_mb"))
        loaded = results.median("iris", name, at("loaded_mb"))
        rows.append([
            TITLES[name], shown(cold), shown(idle, 0), shown(loaded, 0), shown(server.get("added_mb"), 1),
            str(server.get("added_packages", "-")),
        ])  # fmt: skip
    text = (
        "## Cold start, memory, size\n\nIris. *Cold start* is from the command to the first answer, over the floor's "
        "in the same round (with the gateway: see B11). Memory is proportional set size of the whole process tree, "
        "idle and after load. Size and packages are what the server adds to an environment that holds scikit-learn, "
        "numpy, pandas and joblib. Behind the gateway a control plane runs too, outside the model's environment.\n\n"
    )
    head = ["server", "cold start / floor", "idle MB", "loaded MB", "added MB", "added packages"]
    return text + grid(head, rows)


def _changes(results: Results) -> str:
    found = results.data["budgets"].get("b9", {})
    if "changes" not in found:
        return ""
    rows = [
        [name, str(seen["requests"]), str(seen["failed"]), shown(seen["p99_ratio"])]
        for name, seen in found["changes"].items()
    ]
    text = (
        f"## Changes under load\n\nTwo replicas behind the gateway, open loop at {found['rate']:.0f} requests/s, while "
        "the service is changed. No peer has a command for any of these: there an update is a restart, or somebody "
        "else's platform.\n\n"
    )
    return text + grid(["change", "requests", "failed", "p99 / quiet"], rows)


def _profile(results: Results) -> str:
    found = results.data["profile"]
    notes = FOLDER / "profile-notes.md"
    text = "## Where the time goes\n\n"
    if not found:
        return text + "Not recorded."
    if "problem" in found:
        return text + f"Not recorded: {found['problem']}"
    text += (
        f"py-spy, {found['rate']} samples a second for {found['seconds']} s, of a replica under 16 connections "
        f"({CASES[found['case']].title}), both of its threads, "
        f"whichever held the interpreter lock: {found['samples']} samples. "
        "Samples go by the clock: where a neighbour or the other thread took the core from the holder of the lock, "
        "that place counts too much, so it takes a quiet machine.\n\n"
    )
    rows = [
        [f"`{line['where']}`", f"{100 * line['own']:.1f} %", f"{100 * line['total']:.1f} %"] for line in found["top"]
    ]
    shares = sorted(found["parts"].items(), key=lambda part: -part[1])
    text += grid(["part", "own"], [[f"`{part}`", f"{100 * share:.1f} %"] for part, share in shares]) + "\n\n"
    text += grid(["function", "own", "with callees"], rows)
    return text + ("\n\n" + notes.read_text().strip() if notes.exists() else "")


def draw(results: Results) -> None:
    python = environments.python_of("plots", _PLOTTING)
    command = [python, machine.ROOT / "bench" / "plots.py", FOLDER]
    subprocess.run(command, input=json.dumps(_plotted(results)).encode(), env=machine.clean_environ(), check=True)


def _plotted(results: Results) -> dict[str, Any]:
    """What the plots show, so that they need nothing of this package."""
    cpu: dict[str, dict[str, float | None]] = {}
    good: dict[str, dict[str, list[float | None]]] = {}
    for case in CASES.values():
        if not case.only and "16" in map(str, case.connections) and case.name != "sleep50":
            cpu[case.name] = {
                TITLES[name]: results.ratio(case.name, name, "floor", at("closed", "16", "cpu_us")) for name in NAMES
            }
        if case.overload:
            good[case.name] = {
                TITLES[name]: [
results.median(case.name, name, goodput(share, 1.0)) for share in ("0.5", "1", "3")
                ]
                for name in NAMES
            }  # fmt: skip
    return {"cpu": cpu, "goodput": good, "titles": {name: case.title for name, case in CASES.items()}}

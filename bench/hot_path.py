"""A py-spy profile of a replica under load: which functions the time goes to.

Only samples of a thread that holds the interpreter's lock: a thread that waits for work or for the lock costs nothing.
"""

import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from bench import closed_loop, environments
from bench.cases import CASES
from bench.results import Results
from bench.running import say
from bench.servers import scratch, serving

_TOOL = ("py-spy==0.4.1",)
_CASE, _SECONDS, _RATE, _MOST = "iris", 10, 500, 25


def record(results: Results) -> None:
    say("profile ...")
    try:
        results.data["profile"] = _record()
    except Exception as problem:
        results.data["profile"] = {"problem": f"{type(problem).__name__}: {problem}"[:500]}
    results.save()


def _record() -> dict[str, Any]:
    spy = environments.python_of("py-spy", _TOOL).with_name("py-spy")
    with scratch() as folder, serving("argosy", CASES[_CASE]) as running:
        closed_loop.run(running.target, 16, 1.0)
        stacks = Path(folder) / "stacks"
        pid = running.tree.members()[0].pid
        command: list[str | Path] = [spy, "record", "--pid", str(pid), "--duration", str(_SECONDS),
                   "--gil", "--rate", str(_RATE), "--format", "raw",
                   "--output", stacks]  # fmt: skip
        recorder = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        closed_loop.run(running.target, 16, _SECONDS + 1)
        _, said = recorder.communicate(timeout=60)
        if recorder.returncode:
            raise RuntimeError(f"py-spy: {said.strip()[-300:]}")
        counted = count(stacks.read_text())
    return {"case": _CASE, "seconds": _SECONDS, "rate": _RATE, **counted}


def count(raw: str) -> dict[str, Any]:
    """`raw` has a stack a line, `outer;inner count`; the shares of all samples by function."""
    own: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, times = line.rpartition(" ")
        frames = [_named(frame) for frame in stack.split(";") if not frame.startswith(("process ", "thread "))]
        if not frames or not times.isdigit():
            continue
        own[frames[-1]] += int(times)
        parts[_part(stack.rpartition(";")[2])] += int(times)
        for frame in set(frames):
            total[frame] += int(times)
    samples = own.total()
    if not samples:
        raise RuntimeError("py-spy saw no samples")
    top = [{"where": name, "own": n / samples, "total": total[name] / samples} for name, n in own.most_common(_MOST)]
    return {"samples": samples, "top": top, "parts": {part: n / samples for part, n in parts.most_common(_MOST)}}


def _part(frame: str) -> str:
    """A file of the replica's, or else the package that a frame belongs to."""
    file = _file(frame)
    if file.startswith("argosy_serving/"):
        return file
    return file.partition("/")[0] if "/" in file else "standard library and built-ins"


def _file(frame: str) -> str:
    """`handle (argosy_serving/app.py:140)` without name and line."""
    place = frame.partition(" (")[2].rstrip(")")
    return place.rpartition(":")[0] or place


def _named(frame: str) -> str:
    """File and function without the line: what belongs together is one entry."""
    short = "/".join(Path(_file(frame)).parts[-2:])
    name = frame.partition(" (")[0]
    return f"{short} {name}" if short else name

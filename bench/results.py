"""The raw results: one JSON file that a run adds to, so that it can be stopped and gone on with."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine

Read = Callable[[dict[str, Any]], Any]
PATH = machine.ROOT / "docs" / "benchmarks" / "results.json"


@dataclass
class Results:
    """`visits` by case, server and round; `budgets` and `servers` by name."""

    path: Path
    data: dict[str, Any]

    @classmethod
    def load(cls, path: Path = PATH) -> "Results":
        none = cls.empty(path)
        return cls(path, none.data | json.loads(path.read_text())) if path.exists() else none

    @classmethod
    def empty(cls, path: Path = PATH) -> "Results":
        return cls(path, {"machine": {}, "servers": {}, "visits": {}, "budgets": {}, "profile": {}})

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(_sayable(self.data), indent=1, sort_keys=True) + "\n")
        fresh.replace(self.path)

    @staticmethod
    def key(case: str, server: str, round_: int) -> str:
        return f"{case}/{server}/{round_}"

    def has(self, key: str, seconds: float, version: str) -> bool:
        """Whether this visit was made well, as long as it is wanted now, of the version that is here now."""
        found = self.data["visits"].get(key)
        return (
            found is not None
            and "problem" not in found
            and (found["seconds"], found.get("version")) == (seconds, version)
        )

    def rounds(self, case: str, server: str) -> dict[int, dict[str, Any]]:
        """The visits that went well, by round."""
        start = f"{case}/{server}/"
        return {
            int(key.removeprefix(start)): visit
            for key, visit in self.data["visits"].items()
            if key.startswith(start) and "problem" not in visit
        }

    def problem(self, case: str, server: str) -> str:
        """Why there is none that went well; empty when there is one, or none was tried."""
        start = f"{case}/{server}/"
        found = [visit for key, visit in self.data["visits"].items() if key.startswith(start)]
        if not found or any("problem" not in visit for visit in found):
            return ""
        return str(found[-1]["problem"])

    def values(self, case: str, server: str, read: Read) -> dict[int, float]:
        """One number of each round, without the rounds that do not have it."""
        found = {}
        for number, visit in self.rounds(case, server).items():
            try:
                value = read(visit)
            except KeyError:
                continue
            if value is not None:
                found[number] = float(value)
        return found

    def median(self, case: str, server: str, read: Read) -> float | None:
        return middle(list(self.values(case, server, read).values()))

    def ratio(self, case: str, ours: str, theirs: str, read: Read, their_case: str = "") -> float | None:
        """The median of the rounds' ratios: what changes from round to round changes both."""
        mine, other = self.values(case, ours, read), self.values(their_case or case, theirs, read)
        return middle([mine[n] / other[n] for n in mine.keys() & other.keys() if other[n]])


def at(*path: str) -> Read:
    """Reads what lies at this path of a visit."""

    def read(visit: dict[str, Any]) -> Any:
        value: Any = visit
        for key in path:
            value = value[key]
        return value

    return read


def goodput(share: str, deadline_s: float) -> Read:
    """Reads good answers within the deadline over capacity, at this share of capacity."""
    return lambda visit: visit["open"]["rates"][share]["goodput"][f"{deadline_s:g}"] / visit["open"]["capacity"]


def middle(values: list[float]) -> float | None:
    ordered = sorted(values)
    if not ordered:
        return None
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _sayable(value: Any) -> Any:
    """JSON knows no not-a-number; numbers are kept to six digits; texts do not say whose machine it was."""
    if isinstance(value, dict):
        return {key: _sayable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(each) for each in value]
    if isinstance(value, str):
        return value.replace(str(machine.ROOT), ".").replace(str(Path.home()), "~")
    if isinstance(value, float):
        return None if math.isnan(value) or math.isinf(value) else float(f"{value:.6g}")
    return value

"""Which change of a schema breaks callers, and why.

Every input and output becomes the JSON Schema of what may be sent; then one question is asked in both directions:
which values that fit the one do not fit the other? Inputs may only widen, outputs may only narrow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from argosy.schema.effective import entry_schema
from argosy.schema.narrowing import narrowed
from argosy_serving.schema import parse_schema
from argosy_serving.schema.problems import step


@dataclass(frozen=True)
class Change:
    """`where` is a JSON pointer into a request (`/input/...`) or an answer; `why` says what callers meet."""

    breaking: bool
    where: str
    what: str
    why: str


def diff(old: Any, new: Any) -> list[Change]:
    """All changes from the schema file `old` to `new`, breaking ones first. Raises InvalidSchemaFile."""
    for document in (old, new):
        parse_schema(document)
    changes = [*_inputs(old["input"], new["input"]), *_outputs(old.get("output") or {}, new.get("output") or {})]
    # A changed size, say, is narrower and wider at once: only what breaks is told.
    broken = {change.where for change in changes if change.breaking}
    told = [change for change in changes if change.breaking or change.where not in broken]
    return sorted(told, key=lambda change: not change.breaking)


def _inputs(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    changes = []
    removed, added = [n for n in old if n not in new], [n for n in new if n not in old]
    for name, other in _renamed(old, new, removed, added):
        removed.remove(name)
        added.remove(other)
        why = f"callers send {name!r}: they are refused with 400 until they send {other!r}"
        changes.append(Change(True, step("/input", name), f"renamed to {other!r}", why))
    for name in removed:
        why = "callers still send it, and an unknown input is refused with 400"
        changes.append(Change(True, step("/input", name), "removed", why))
    for name in added:
        required = _required(new[name])
        why = "callers do not send it yet, and it is required" if required else "callers may leave it out"
        changes.append(Change(required, step("/input", name), "new input", why))
    for name in (name for name in old if name in new):
        before, after = entry_schema(old[name]), entry_schema(new[name])
        at = step("/input", name)
        if _required(new[name]) != _required(old[name]):
            became = ("required now", "callers that leave it out are refused with 400")
            changes.append(
                Change(True, at, *became)
                if _required(new[name])
                else Change(False, at, "optional now", "it may be left out")
            )
        changes += [
            Change(True, where, what, "callers that send what was allowed are refused with 400")
            for where, what in narrowed(before, after, at)
        ]
        changes += [
            Change(False, where, what, "more is accepted than before")
            for where, what in narrowed(after, before, at, reverse=True)
        ]
    return changes


def _required(entry: Mapping[str, Any]) -> bool:
    return entry.get("required", True) is True


def _outputs(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    changes = []
    for name in (name for name in old if name not in new):
        changes.append(Change(True, step("/output", name), "removed", "callers read it from the answer"))
    for name in (name for name in new if name not in old):
        changes.append(Change(False, step("/output", name), "new output", "callers pass over what they do not know"))
    for name in (name for name in old if name in new):
        before, after = entry_schema(old[name]), entry_schema(new[name])
        at = step("/output", name)
        changes += [
            Change(True, where, what, "callers may meet answers that were not possible before")
            for where, what in narrowed(after, before, at, reverse=True)
        ]
        changes += [
            Change(False, where, what, "every answer is one that was possible before")
            for where, what in narrowed(before, after, at)
        ]
    return changes


def _renamed(
    old: Mapping[str, Any], new: Mapping[str, Any], removed: list[str], added: list[str]
) -> list[tuple[str, str]]:
    """Pairs of a removed and a new input that take the very same, where there is no doubt which belongs to which."""
    pairs = []
    for name in removed:
        same = [other for other in added if entry_schema(old[name]) == entry_schema(new[other])]
        back = [n for n in removed if same and entry_schema(old[n]) == entry_schema(new[same[0]])]
        if len(same) == 1 and back == [name]:
            pairs.append((name, same[0]))
    return pairs

"""Static inspection of artefacts: what they are and what they need, told without loading them.

Nothing here raises on hostile bytes: what cannot be read is `unknown`, or a finding. Time, memory and the bytes that
are read are bounded, however large the files.
"""

import io
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from argosy.models.decompress import Damaged, Decompressed, compression
from argosy.models.estimators import estimator_inputs, is_estimator
from argosy.models.formats import FORMATS, Artifact
from argosy.models.inputs import usable
from argosy.models.mlflow import mlflow_folder
from argosy.models.pickles import Budget, Lost, Scan, scan
from argosy.models.references import distributions, findings, framework, pinned
from argosy.records import Inspection

_FILES = 500
_FINDINGS = 50
_TIMEOUT_S = 10.0
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib", ".sav")


def inspect(
    files: Sequence[tuple[str, Path]], timeout_s: float = _TIMEOUT_S, clock: Callable[[], float] = time.monotonic
) -> Inspection:
    """Of a model's files, as (path within the model, where its bytes lie). Never raises."""
    budget = Budget(deadline=clock() + timeout_s, clock=clock)
    parts: list[tuple[str, Inspection]] = []
    for path, place in files[:_FILES]:
        try:
            budget.spend()
            parts.append((path, _inspect_file(path, place, budget)))
        except Lost:
            break
        except Exception as problem:  # noqa: BLE001 - hostile bytes find ways; a registration must not fail by them
            parts.append((path, Inspection(findings=[f"could not be inspected ({type(problem).__name__})"])))
    notes = [f"{path}: {note}" for path, part in parts for note in part.findings]
    if len(parts) < len(files):
        notes.append(f"only {len(parts)} of {len(files)} files were inspected")
    whole = _folder(files) or _combined([part for _, part in parts])
    return replace(whole, findings=[*whole.findings, *notes][:_FINDINGS])


def _folder(files: Sequence[tuple[str, Path]]) -> Inspection | None:
    try:
        return mlflow_folder(dict(files))
    except Exception as problem:  # noqa: BLE001 - as above
        return Inspection("mlflow", findings=[f"MLmodel could not be read ({type(problem).__name__})"])


def _combined(parts: Sequence[Inspection]) -> Inspection:
    """The format and framework of the first file that has one, the requirements of all."""
    telling = [part for part in parts if part.framework] or [part for part in parts if part.format != "unknown"]
    if not telling:
        return Inspection()
    first = telling[0]
    united = _united(r for part in parts for r in part.requirements)
    scriptless = [part for part in parts if part.template]
    # Of several artefacts nobody but a script can say which is asked, and in what order.
    one = scriptless[0] if len(scriptless) == 1 else Inspection()
    return replace(
        Inspection(first.format, first.framework, first.framework_version, united),
        template=one.template,
        artifact=one.artifact,
        inputs=one.inputs,
    )


def _united(requirements: Iterable[str]) -> list[str]:
    """Each distribution once, with its version where one is told (the first one told)."""
    chosen: dict[str, str] = {}
    for requirement in requirements:
        name = requirement.partition("==")[0]
        if name not in chosen or "==" not in chosen[name]:
            chosen[name] = requirement
    return sorted(chosen.values())


def _inspect_file(path: str, place: Path, budget: Budget) -> Inspection:
    with place.open("rb") as stream:
        artifact = Artifact(path, stream, place.stat().st_size, budget)
        for known in FORMATS:
            stream.seek(0)
            if found := known(artifact):
                return found
        stream.seek(0)
        return _pickle(artifact)


def _pickle(artifact: Artifact) -> Inspection:
    kind = compression(artifact.head)
    named = artifact.path.lower().endswith(_PICKLE_SUFFIXES)
    if kind == "lz4":
        note = "is compressed with lz4, which cannot be inspected"
        return Inspection("joblib", None, None, ["joblib", "lz4"], [note]) if named else Inspection()
    stream: BinaryIO = artifact.stream
    start = artifact.head[:2]
    if kind:
        reader = io.BufferedReader(Decompressed(artifact.stream, kind), 1 << 18)
        try:
            start = reader.peek(2)[:2]
        except Damaged as problem:
            return Inspection("unknown", findings=[str(problem)] if named else [])
        stream = reader
    # Protocol 2 and later say so in two bytes. Older ones are text that could be anything: only the whole tells.
    modern = start[:1] == b"\x80" and start[1:2] <= b"\x05"
    if not (modern or named):
        return Inspection()
    found = scan(stream, artifact.budget, can_skip=not kind)
    if not modern and (found.problem or not found.names):
        return Inspection(findings=["is named like a pickle, but is none"])
    return _of_pickle(artifact.path, found, kind is not None)


def _of_pickle(path: str, found: Scan, compressed: bool) -> Inspection:
    needed = set(distributions(found.names))
    if compressed:
        needed.add("joblib")
    if any(name.startswith(("xgboost.sklearn.", "lightgbm.sklearn.")) for name in found.names):
        needed.add("scikit-learn")
    requirements = sorted(needed)
    if found.sklearn_version:
        requirements = pinned(requirements, "scikit-learn", found.sklearn_version)
    distribution = framework(found.names)
    version = found.sklearn_version if distribution == "scikit-learn" else None
    notes = findings(found.names)
    if found.problem:
        notes.append(f"could not be read to its end: {found.problem}; it may refer to more")
    kind = "joblib" if found.joblib or compressed else "pickle"
    told = Inspection(kind, distribution, version, requirements, notes)
    if found.problem or not is_estimator(found.root):
        return told
    return replace(told, template="estimator", artifact=path, inputs=usable(estimator_inputs(found.root)))

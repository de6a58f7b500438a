"""Infers what a manifest needs when neither a conda nor a requirements file is given.

From the script's imports, from what the models say they were written by, and from the types of the schema. Guesses
are shown with their reasons, and a dependency file replaces them all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as IndexRequirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from argosy.manifests.dependencies import Dependencies, Requirement
from argosy.manifests.import_names import DISTRIBUTIONS, NAMESPACES, PROVIDED
from argosy.manifests.scripts import Script
from argosy.records import Inspection

# The first version of each that runs with numpy 2; older wheels do not say so themselves, and crash.
_NUMPY_2_SINCE = {
    "scikit-learn": "1.4.2",
    "pandas": "2.2.2",
    "scipy": "1.13.0",
    "torch": "2.3.0",
    "onnxruntime": "1.19.0",
    "lightgbm": "4.4.0",
    "statsmodels": "0.14.2",
}


@dataclass(frozen=True)
class Inferred:
    """`requirement` as a requirements file has it; `reason` completes "because ..."."""

    requirement: str
    reason: str


def infer(
    script: Script | None, models: Sequence[tuple[str, Inspection]], schema: Mapping[str, Any] | None = None
) -> list[Inferred]:
    """Sorted by name. `models` are (reference, inspection) pairs.

    A pin of a model wins over the bare name of an import, since a pickle should be loaded by the version that wrote
    it. Two models that want different versions are both listed: the resolver then says that they contradict.
    """
    guesses = [*_from_models(models), *_from_script(script), *_from_schema(schema)]
    guesses += _old_numpy(guesses)
    pinned = {_name(guess.requirement) for guess in guesses if _is_pinned(guess.requirement)}
    kept: dict[str, Inferred] = {}
    for guess in guesses:
        if _is_pinned(guess.requirement) or _name(guess.requirement) not in pinned:
            kept.setdefault(guess.requirement, guess)
    return sorted(kept.values(), key=lambda guess: guess.requirement)


def as_dependencies(inferred: Sequence[Inferred]) -> Dependencies:
    """For the resolver: its messages then say why a requirement is there."""
    return Dependencies(tuple(Requirement(i.requirement, f"inferred because {i.reason}") for i in inferred))


def distribution(module: str) -> str:
    """The distribution that holds the dotted `module`; "" when the serving runtime brings it. Unknown: its own name."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        if prefix in PROVIDED:
            return ""
        if prefix in DISTRIBUTIONS:
            return DISTRIBUTIONS[prefix]
    return "" if parts[0] in NAMESPACES else str(canonicalize_name(parts[0]))


def _from_models(models: Sequence[tuple[str, Inspection]]) -> list[Inferred]:
    found = []
    for reference, inspection in models:
        texts = [text for text in inspection.requirements if _valid(text)]
        if inspection.framework:
            name = str(canonicalize_name(inspection.framework))
            version = inspection.framework_version
            exact = f"{name}=={version}"
            texts = [text for text in texts if _name(text) != name]
            texts.insert(0, exact if version and _valid(exact) else name)
        found += [Inferred(text, f"the model {reference} was written with it") for text in texts]
    return found


def _from_script(script: Script | None) -> list[Inferred]:
    if script is None:
        return []
    found: dict[str, Inferred] = {}
    for module in script.dotted_imports:
        name = distribution(module)
        if name and name not in found:
            found[name] = Inferred(name, f"the script imports {module}")
    return list(found.values())


def _from_schema(schema: Mapping[str, Any] | None) -> list[Inferred]:
    types = {
        str(part.get("type", "")).lower()
        for side in ("input", "output")
        for part in _values((schema or {}).get(side))
        if isinstance(part, Mapping)
    }
    # 2017's files number the types: 1 is numpy, 3 is pandas.
    wanted = {"numpy": "numpy", "1": "numpy", "pandas": "pandas", "3": "pandas"}
    names = sorted({wanted[kind] for kind in types if kind in wanted})
    return [Inferred(name, f"the schema has {name} values") for name in names]


def _old_numpy(guesses: Sequence[Inferred]) -> list[Inferred]:
    for guess in guesses:
        since = _NUMPY_2_SINCE.get(_name(guess.requirement))
        version = _exact(guess.requirement)
        if since and version and version < Version(since):
            return [Inferred("numpy<2", f"{guess.requirement} was built for numpy 1")]
    return []


def _values(part: object) -> Sequence[object]:
    return list(part.values()) if isinstance(part, Mapping) else []


def _name(text: str) -> str:
    return str(canonicalize_name(IndexRequirement(text).name))


def _is_pinned(text: str) -> bool:
    return bool(IndexRequirement(text).specifier)


def _exact(text: str) -> Version | None:
    pins = [s.version for s in IndexRequirement(text).specifier if s.operator == "==" and "*" not in s.version]
    try:
        return Version(pins[0]) if pins else None
    except InvalidVersion:
        return None


def _valid(text: str) -> bool:
    """What a model file says of itself is not trusted: only plain requirements of an index are taken."""
    try:
        return IndexRequirement(text).url is None
    except InvalidRequirement:
        return False

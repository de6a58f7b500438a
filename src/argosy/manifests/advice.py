"""From what a replica complains of to the line of the conda or requirements file to change. Pure text work."""

import re
from collections.abc import Iterable, Sequence

from packaging.utils import canonicalize_name

from argosy.errors import InvalidDependencies
from argosy.manifests.conda import parse_conda
from argosy.manifests.dependencies import Requirement
from argosy.manifests.infer import distribution
from argosy.manifests.requirements import parse_requirements
from argosy.records import Inspection, Recipe

_NO_MODULE = re.compile(r"No module named '([A-Za-z_][\w.]*)'")
_NO_PACKAGE = re.compile(r"the environment has no (\w+)")
# As scikit-learn warns when it reads what another version wrote.
_OTHER_SKLEARN = re.compile(r"Trying to unpickle estimator \w+ from version ([\w.]*\w) when using version ([\w.]*\w)")
_MOST = 10


def advice(recipe: Recipe, models: Sequence[tuple[str, Inspection]], texts: Iterable[str]) -> list[str]:
    """What to change, most certain first. `texts` are the failure's reason and the log; `models` (reference,
    inspection) pairs."""
    whole = "\n".join(texts)
    wishes = _wishes(recipe)
    found: dict[str, str] = {}
    for module in [*_NO_MODULE.findall(whole), *_NO_PACKAGE.findall(whole)]:
        name = distribution(module)
        if name:
            found.setdefault(name, _missing(recipe, wishes, name, module))
    for written, used in _OTHER_SKLEARN.findall(whole):
        found.setdefault("scikit-learn", _mismatch(recipe, wishes, "scikit-learn", "The model", written, used))
    for reference, inspection in models:
        name, version = str(canonicalize_name(inspection.framework or "")), inspection.framework_version
        locked = recipe.lock.packages.get(name)
        if version and locked and locked != version:
            found.setdefault(name, _mismatch(recipe, wishes, name, f"Model {reference}", version, locked))
    return list(found.values())[:_MOST]


def _missing(recipe: Recipe, wishes: Sequence[Requirement], name: str, module: str) -> str:
    locked = recipe.lock.packages.get(name)
    if locked is not None:
        # A pickle of numpy 2 under numpy 1 looks for numpy._core, one of an old scikit-learn for modules long gone.
        return (
            f"{name} {locked} has no module {module!r}: another version of it is wanted, most likely the one that the "
            f"model was saved with. {_where(recipe, wishes, name, '<that version>')}"
        )
    return f"{module!r} is missing: {_add(recipe, name)}"


def _mismatch(recipe: Recipe, wishes: Sequence[Requirement], name: str, subject: str, written: str, used: str) -> str:
    return f"{subject} was saved by {name} {written} and is loaded by {used}. {_where(recipe, wishes, name, written)}"


def _where(recipe: Recipe, wishes: Sequence[Requirement], name: str, version: str) -> str:
    line = next((wish for wish in wishes if wish.name == name), None)
    if line is None:
        return f"To have that one, {_add(recipe, f'{name}=={version}')}"
    is_conda = line.file == recipe.conda_name and "==" not in line.original
    return f"Change {line.place} to {name}{'=' if is_conda else '=='}{version}."


def _add(recipe: Recipe, requirement: str) -> str:
    if recipe.conda is not None:
        return f"add `{requirement.replace('==', '=')}` to `dependencies` in {recipe.conda_name}."
    if recipe.requirements is not None:
        return f"add a line `{requirement}` to {recipe.requirements_name}."
    inferred = ", ".join(text.partition(" (")[0] for text in recipe.inferred) or "none"
    return f"the dependencies were inferred ({inferred}); give a requirements file with these and `{requirement}` (-p)."


def _wishes(recipe: Recipe) -> list[Requirement]:
    found: list[Requirement] = []
    try:
        if recipe.conda is not None:
            found += parse_conda(recipe.conda, recipe.conda_name).requirements
        if recipe.requirements is not None:
            found += parse_requirements(recipe.requirements, recipe.requirements_name).requirements
    except InvalidDependencies:
        return found
    return found

"""What a recipe asks to be installed, and from where: a package index alone, or conda's packages with wheels on top."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from argosy.errors import InvalidOption
from argosy.manifests.conda import on_an_index, only_in_conda, wished_python
from argosy.manifests.conda_file import CondaFile, read_conda_file
from argosy.manifests.dependencies import Dependencies, PythonWish, combine
from argosy.manifests.infer import Inferred
from argosy.manifests.provided import without_provided
from argosy.manifests.requirements import parse_requirements
from argosy.records import Recipe


@dataclass(frozen=True)
class Wishes:
    """What is to be locked: `on_index` from a package index; below it all of `conda` where `with_conda`."""

    on_index: Dependencies
    inferred: list[Inferred] = field(default_factory=list)
    conda: CondaFile | None = None
    with_conda: bool = False

    @property
    def python(self) -> PythonWish | None:
        return wished_python(self.conda) if self.conda and self.with_conda else self.on_index.python


def from_files(request: Mapping[str, Any], origin: Recipe | None) -> Wishes | None:
    """What the dependency files of a request ask for; None without any. `origin` is what the request is based on."""
    file = read_conda_file(request["conda"], file_name(request, "conda")) if request.get("conda") else None
    with_conda, why = _with_conda(request, file, origin)
    found = []
    if file and with_conda:
        found.append(replace(file.pip, notes=(*file.notes, *why, *file.pip.notes)))
    elif file:
        found.append(on_an_index(file))
    if request.get("requirements"):
        found.append(parse_requirements(request["requirements"], file_name(request, "requirements")))
    return Wishes(without_provided(combine(*found)), [], file, with_conda) if found else None


def file_name(request: Mapping[str, Any], kind: str) -> str:
    """What the dependency file of a request is called in messages; empty without one."""
    if not request.get(kind):
        return ""
    return request.get(f"{kind}_name") or {"conda": "conda.yml", "requirements": "requirements.txt"}[kind]


def names(file: CondaFile) -> set[str]:
    """What an index would be asked for, for the packages that are not below `pip:`."""
    return {wish.name for wish in on_an_index(replace(file, pip=Dependencies())).requirements}


def same_wishes(origin: Recipe, request: Mapping[str, Any], wishes: Wishes, python: str) -> bool:
    """Whether nothing that the lock was resolved from has changed."""
    before = [text.partition(" (")[0] for text in origin.inferred]
    return (
        origin.lock.python == python
        and bool(origin.lock.conda) == wishes.with_conda
        and origin.conda == request.get("conda")
        and origin.requirements == request.get("requirements")
        and before == [one.requirement for one in wishes.inferred]
    )


def _with_conda(
    request: Mapping[str, Any], file: CondaFile | None, origin: Recipe | None
) -> tuple[bool, tuple[str, ...]]:
    """Whether the file is solved with conda's packages: by --conda, as before, or for what no index has."""
    if file is None:
        if request.get("with_conda"):
            raise InvalidOption("--conda", True, "it needs a conda file: name one with -c")
        return False, ()
    if request.get("with_conda") or (origin and origin.lock.conda and origin.conda == request.get("conda")):
        return True, ()
    if spec := only_in_conda(file):
        why = "is on no package index: the file is solved with conda's packages"
        return True, (f"{file.name} line {spec.line}: {spec.text} {why}.",)
    return False, ()

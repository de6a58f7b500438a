"""Which Python a conda file asks for, and which packages of an index stand for the conda packages in it.

`conda_names.py` knows which conda packages have another name on an index, or none at all.
"""

import re

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as IndexRequirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from argosy.errors import InvalidDependencies
from argosy.manifests.conda_file import CondaFile, CondaSpec, read_conda_file
from argosy.manifests.conda_names import INDEX_NAMES, NOT_ON_AN_INDEX, ONLY_IN_CONDA
from argosy.manifests.dependencies import Dependencies, PythonWish, Requirement, combine, unusable

_LONGEST_SPEC_CHARS = 300
_SPEC = re.compile(r"(?:[^\s:\[\]=<>]+::)?([A-Za-z0-9_][A-Za-z0-9_.-]*)\s*(.*)", re.DOTALL)
_BRACKET = re.compile(r"(.*)\[(.*)\]\s*", re.DOTALL)
_PAIR = re.compile(r"""\s*([a-z_]+)\s*=\s*(?:'([^']*)'|"([^"]*)"|([^,'"]*))\s*(?:,|$)""")
_CLAUSE = re.compile(r"(===?|!=|<=|>=|~=|=|<|>)?\s*([A-Za-z0-9_.*+!-]+)")
_PINNED = re.compile(r"(={0,2})\s*([^\s=<>!~,|]+)[=\s]+([^\s=<>!~,|]+)")


def parse_conda(text: str, file: str = "conda.yml") -> Dependencies:
    """Raises InvalidDependencies with the line of the first thing that cannot be honoured."""
    return on_an_index(read_conda_file(text, file))


def on_an_index(file: CondaFile) -> Dependencies:
    """What stands for the file's packages on a package index."""
    specs = [_read_spec(spec.text, file.name, spec.line) for spec in file.specs]
    return combine(Dependencies(notes=file.notes), *specs, file.pip)


def only_in_conda(file: CondaFile) -> CondaSpec | None:
    """The first package that no index has and that the script may call: it makes the file one for conda."""
    return next((spec for spec in file.specs if _name_of(spec.text) in ONLY_IN_CONDA), None)


def wished_python(file: CondaFile) -> PythonWish | None:
    """Which Python the file asks for; None too where only conda understands it."""
    for spec in file.specs:
        if _name_of(spec.text) == "python":
            try:
                return _read_spec(spec.text, file.name, spec.line).python
            except InvalidDependencies:
                return None
    return None


def _name_of(spec: str) -> str:
    match = _SPEC.fullmatch(spec.partition("[")[0].strip())
    return str(canonicalize_name(match[1])) if match else ""


def _read_spec(spec: str, file: str, line: int) -> Dependencies:
    """One match specification: name, name=1.2, name==1.2=build, name>=1,<2, channel::name, name[version='>=1']."""
    match = _SPEC.fullmatch(_without_brackets(spec, file, line)) if len(spec) <= _LONGEST_SPEC_CHARS else None
    if not match:
        raise unusable(file, line, f"{spec[:200]!r} is no conda package. Write it like numpy=1.26.")
    name, versions = str(canonicalize_name(match[1])), match[2].strip()
    if name in NOT_ON_AN_INDEX:
        note = f"{file} line {line}: {name} is left out: {NOT_ON_AN_INDEX[name]}."
        return Dependencies(notes=(note,))
    specifiers, build = _specifiers(versions, spec, file, line)
    if name == "python":
        return Dependencies(python=PythonWish(specifiers, f"{file} line {line}: {spec}"))
    index_name = INDEX_NAMES.get(name, name)
    notes = []
    if index_name != name:
        notes.append(f"{file} line {line}: {name} is called {index_name} on the package index.")
    if build:
        notes.append(f"{file} line {line}: the conda build {build!r} of {name} is passed over.")
    try:
        text = str(IndexRequirement(f"{index_name}{specifiers}"))
    except InvalidRequirement as problem:
        raise unusable(file, line, f"{spec!r} is no conda package. Write it like numpy=1.26.") from problem
    return Dependencies((Requirement(text, file, line, spec),), notes=tuple(notes))


def _without_brackets(spec: str, file: str, line: int) -> str:
    match = _BRACKET.fullmatch(spec)
    if not match:
        return spec
    values = {key: one or two or three for key, one, two, three in _PAIR.findall(match[2])}
    if not values or not set(values) <= {"version", "build", "channel", "subdir", "name"}:
        raise unusable(file, line, f"{spec[:200]!r}: only version, build and channel can stand in brackets")
    return f"{match[1]} {values.get('version', '')}".strip()


def _specifiers(versions: str, spec: str, file: str, line: int) -> tuple[str, str]:
    """PEP 440 specifiers of conda's, and the build string that was passed over."""
    if "|" in versions:
        raise unusable(
            file,
            line,
            f"{spec!r}: `|` (or) cannot be used on an index. Choose one range, such as >=1.2,<2, or give --conda.",
        )
    build = ""
    if pinned := _PINNED.fullmatch(versions):
        versions, build = "==" + pinned[2], pinned[3]
    clauses = [_clause(part.strip(), spec, file, line) for part in versions.split(",")] if versions else []
    joined = ",".join(clause for clause in clauses if clause)
    try:
        SpecifierSet(joined)
    except InvalidSpecifier as problem:
        raise _no_version(spec, file, line) from problem
    return joined, build


def _clause(part: str, spec: str, file: str, line: int) -> str:
    """`=1.26` and `1.26` mean any 1.26.x, `1.26*` likewise; `>=1.2.*` means >=1.2; `*` means any."""
    match = _CLAUSE.fullmatch(part)
    if not match:
        raise _no_version(spec, file, line)
    operator, version = match[1] or "", match[2]
    base = version.rstrip("*").rstrip(".")
    if not base:
        return ""
    if operator in ("", "="):
        exact = operator == "" and not version.endswith("*")
        return f"=={base}" if exact else f"=={base}.*"
    if version.endswith("*") and operator not in ("==", "!="):
        return f"{operator}{base}"
    return f"{operator}{version if not version.endswith('*') else base + '.*'}"


def _no_version(spec: str, file: str, line: int) -> InvalidDependencies:
    return unusable(file, line, f"{spec[:200]!r}: this version cannot be used. Write it like numpy=1.26 or numpy>=1.2.")

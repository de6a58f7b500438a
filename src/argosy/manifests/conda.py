"""Reads a conda environment file: which Python, and which packages of an index stand for the conda packages in it.

Only the text is read. `conda_names.py` knows which conda packages have another name on an index, or none at all.
"""

import re
from collections.abc import Iterator

import yaml
from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as IndexRequirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from argosy.errors import InvalidDependencies
from argosy.manifests.conda_names import INDEX_NAMES, NOT_ON_AN_INDEX
from argosy.manifests.dependencies import Dependencies, PythonWish, Requirement, combine, unusable
from argosy.manifests.requirements import read_lines, without_comment

_LONGEST_FILE_CHARS, _LONGEST_SPEC_CHARS = 200_000, 300
_KNOWN_KEYS = frozenset({"name", "channels", "dependencies", "prefix", "platforms"})
_SPEC = re.compile(r"(?:[^\s:\[\]=<>]+::)?([A-Za-z0-9_][A-Za-z0-9_.-]*)\s*(.*)", re.DOTALL)
_BRACKET = re.compile(r"(.*)\[(.*)\]\s*", re.DOTALL)
_PAIR = re.compile(r"""\s*([a-z_]+)\s*=\s*(?:'([^']*)'|"([^"]*)"|([^,'"]*))\s*(?:,|$)""")
_CLAUSE = re.compile(r"(===?|!=|<=|>=|~=|=|<|>)?\s*([A-Za-z0-9_.*+!-]+)")
_PINNED = re.compile(r"(={0,2})\s*([^\s=<>!~,|]+)[=\s]+([^\s=<>!~,|]+)")


def parse_conda(text: str, file: str = "conda.yml") -> Dependencies:
    """Raises InvalidDependencies with the line of the first thing that cannot be honoured."""
    if len(text) > _LONGEST_FILE_CHARS:
        raise unusable(file, 0, f"a conda file of more than {_LONGEST_FILE_CHARS:,} characters is not read")
    root = _compose(text, file)
    if root is None:
        raise unusable(file, 0, "the file is empty. It needs a `dependencies:` list.")
    if not isinstance(root, yaml.MappingNode):
        raise unusable(file, _line(root), "a conda file is a mapping with a `dependencies:` list")
    keys = _pairs(root, file)
    notes = [
        f"{file} line {_line(node)}: `{key}` has no effect here and is passed over."
        for key, node in keys.items()
        if key not in _KNOWN_KEYS
    ]
    listed = keys.get("dependencies")
    if listed is None:
        raise unusable(file, 0, "there is no `dependencies:` list in this file")
    parts = [Dependencies(notes=tuple(notes))]
    for node in _items(listed, "dependencies", file):
        if isinstance(node, yaml.MappingNode):
            parts.append(_read_pip(node, file))
        elif isinstance(node, yaml.ScalarNode):
            parts.append(_read_spec(str(node.value).strip(), file, _line(node)))
        else:
            raise unusable(file, _line(node), "an entry of `dependencies` is a package such as numpy=1.26, or `pip:`")
    return combine(*parts)


def _compose(text: str, file: str) -> yaml.Node | None:
    """The nodes of the file, which know their lines. Nothing is constructed, so no tag of the file has any effect."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        raise unusable(file, mark.line + 1 if mark else 0, f"this is no YAML: {problem.problem}") from problem
    except (yaml.YAMLError, RecursionError) as problem:
        raise unusable(file, 0, f"this is no YAML: {str(problem).splitlines()[0][:200]}") from problem


def _pairs(node: yaml.MappingNode, file: str) -> dict[str, yaml.Node]:
    found: dict[str, yaml.Node] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise unusable(file, _line(key), "a key must be a word")
        if key.value in found:
            raise unusable(file, _line(key), f"{key.value!r} is given twice")
        found[key.value] = value
    return found


def _items(node: yaml.Node, key: str, file: str) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if isinstance(node, yaml.ScalarNode) and node.value in ("", "null", "~"):
        return []
    raise unusable(file, _line(node), f"`{key}` must be a list, one `- package` a line")


def _read_pip(node: yaml.MappingNode, file: str) -> Dependencies:
    keys = _pairs(node, file)
    if set(keys) != {"pip"}:
        raise unusable(file, _line(node), f"{sorted(keys)} cannot stand in `dependencies`; only `pip:` has a list")

    def lines() -> Iterator[tuple[int, str]]:
        for item in _items(keys["pip"], "pip", file):
            if not isinstance(item, yaml.ScalarNode):
                raise unusable(file, _line(item), "an entry of `pip` is a requirement such as numpy>=1.26")
            yield _line(item), without_comment(str(item.value))

    return read_lines(lines(), file)


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
        raise unusable(file, line, f"{spec!r}: `|` (or) cannot be used. Choose one range, such as >=1.2,<2.")
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


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1

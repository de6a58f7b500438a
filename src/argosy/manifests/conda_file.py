"""Reads the text of a conda environment file: channels, packages with their lines, and the `pip:` list.

`conda.py` makes packages of an index of these, `conda_lock.py` solves them as conda would.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import yaml

from argosy.manifests.channels import has_token
from argosy.manifests.dependencies import Dependencies, combine, unusable
from argosy.manifests.requirements import read_lines, without_comment

_LONGEST_FILE_CHARS = 200_000
_KNOWN_KEYS = frozenset({"name", "channels", "dependencies", "prefix", "platforms"})
_CHANNEL_NAME = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*")
# conda's own name for the channels of its maker.
_DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")


@dataclass(frozen=True)
class CondaSpec:
    """One package of `dependencies`, as it was written."""

    text: str
    line: int


@dataclass(frozen=True)
class CondaFile:
    """`channels` are names or URLs with the lines that name them; `pip` is what stands below `pip:`."""

    name: str
    channels: tuple[CondaSpec, ...] = ()
    specs: tuple[CondaSpec, ...] = ()
    pip: Dependencies = field(default_factory=Dependencies)
    notes: tuple[str, ...] = ()


def read_conda_file(text: str, file: str = "conda.yml") -> CondaFile:
    """Raises InvalidDependencies with the line of the first thing that is no part of a conda file."""
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
    specs, pip = [], []
    for node in _items(listed, "dependencies", file):
        if isinstance(node, yaml.MappingNode):
            pip.append(_read_pip(node, file))
        elif isinstance(node, yaml.ScalarNode):
            specs.append(CondaSpec(str(node.value).strip(), _line(node)))
        else:
            raise unusable(file, _line(node), "an entry of `dependencies` is a package such as numpy=1.26, or `pip:`")
    channels = _read_channels(keys.get("channels"), file)
    return CondaFile(file, tuple(channels), tuple(specs), combine(*pip), tuple(notes))


def _read_channels(node: yaml.Node | None, file: str) -> Iterator[CondaSpec]:
    for item in _items(node, "channels", file) if node is not None else ():
        if not isinstance(item, yaml.ScalarNode):
            raise unusable(file, _line(item), "a channel is a name such as conda-forge, or a URL")
        text, line = str(item.value).strip().rstrip("/"), _line(item)
        if text == "nodefaults":
            continue
        yield from (
            CondaSpec(each, line) for each in (_DEFAULTS if text == "defaults" else [_channel(text, file, line)])
        )


def _channel(text: str, file: str, line: int) -> str:
    """A channel's name or URL, which holds no secret: the file is kept with the manifest."""
    if PurePosixPath(text).is_absolute():
        return f"file://{text}"
    if "://" not in text:
        if not _CHANNEL_NAME.fullmatch(text) or text.startswith("."):
            raise unusable(file, line, f"{text[:100]!r} is no channel. Write a name such as conda-forge, or a URL.")
        return text
    try:
        parts = urlsplit(text)
        secret, usable = bool(parts.username or parts.password), bool(parts.hostname) or parts.scheme == "file"
        usable = usable and parts.scheme in ("http", "https", "file")
    except ValueError:
        secret, usable = False, False
    if secret or has_token(text):
        raise unusable(
            file,
            line,
            "the channel holds a user name, password or token, and this file is kept with the manifest. Write the URL "
            "without them and put them into the netrc file of the control plane's user, the file that "
            "RATTLER_AUTH_FILE names, or the conda_channels setting.",
        )
    if not usable:
        raise unusable(file, line, "a channel's URL begins with https://, http:// or file://")
    return text


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


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1

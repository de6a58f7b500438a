"""Resolves dependencies to a lock: exact versions with the hashes of their wheels, the same on any machine.

`uv pip compile` does the work, for Linux and the wanted Python only. Wheels only: building a source distribution
would run its code in the control plane.
"""

import platform
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from packaging.markers import Marker, default_environment

from argosy.errors import EnvironmentFailed
from argosy.manifests.dependencies import Dependencies, Requirement
from argosy.manifests.resolution import Question, explain
from argosy.manifests.uv import Index, OnLine, run_uv
from argosy.records import Lock

SERVING_FILE = "Argosy's serving runtime"
_GIVEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]* @ file:")
_ENTRY = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)\s*(?:;\s*([^\\]+?))?\s*$")


@dataclass(frozen=True)
class Entry:
    """One locked package. `marker` says where it is installed, empty for everywhere."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    def render(self) -> str:
        head = f"{self.name}=={self.version}" + (f" ; {self.marker}" if self.marker else "")
        return " \\\n".join([head, *(f"    --hash={value}" for value in self.hashes)])


@dataclass(frozen=True)
class Given:
    """A distribution that is there already and stays as it is: what is resolved must get along with it."""

    name: str
    version: str
    place: str = "conda's packages"

    def wheel(self, folder: Path) -> Path:
        """One that says no more than this."""
        stem = f"{re.sub(r'[-_.]+', '_', self.name)}-{self.version}"
        path = folder / f"{stem}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            metadata = f"Metadata-Version: 2.1\nName: {self.name}\nVersion: {self.version}\n"
            wheel.writestr(f"{stem}.dist-info/METADATA", metadata)
            wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{stem}.dist-info/RECORD", "")
        return path

    def requirement(self, folder: Path) -> Requirement:
        return Requirement(f"{self.name} @ {self.wheel(folder).as_uri()}", self.place, 0, f"{self.name} {self.version}")


def resolve(
    dependencies: Dependencies,
    python: str,
    serving_requirements: Sequence[str],
    index_url: str = "",
    extra_index_url: str = "",
    on_line: OnLine | None = None,
    given: Sequence[Given] = (),
) -> Lock:
    """The lock for Python X.Y, with what the serving runtime itself needs, but without what is `given`.

    The index is the dependency file's, else `index_url`, else the one of uv's own configuration. `on_line` gets uv's
    output as it comes. Raises InvalidDependencies, with uv's words in details["log"], or EnvironmentFailed when the
    index does not answer.
    """
    wishes = [
        *dependencies.requirements,
        *(Requirement(text, SERVING_FILE) for text in serving_requirements),
    ]
    index = index_for(dependencies, index_url, extra_index_url)
    try:
        with tempfile.TemporaryDirectory(prefix="argosy-lock-") as name:
            folder = Path(name)
            wishes += [each.requirement(folder) for each in given]
            question = Question(tuple(wishes), python, index, dependencies.prerelease)
            (folder / "pyproject.toml").write_text(_project(python), encoding="utf-8")
            (folder / "requirements.in").write_text("".join(f"{w.text}\n" for w in wishes), encoding="utf-8")
            finished = run_uv(question.arguments("requirements.in"), folder, index=index, on_line=on_line)
            if finished.code:
                raise explain(question, finished, folder)
    except OSError as problem:
        raise EnvironmentFailed(
            f"The dependencies could not be resolved: the temporary folder {tempfile.gettempdir()} cannot be used "
            f"({problem.strerror or problem}). Free some space there, or set TMPDIR to another folder."
        ) from problem
    return make_lock(_only_wished(read_entries(finished.stdout), wishes), python)


def index_for(dependencies: Dependencies, index_url: str = "", extra_index_url: str = "") -> Index:
    """Where to find packages: the dependency file's indexes before the settings' (several URLs parted by blanks)."""
    extra = dict.fromkeys([*dependencies.extra_index_urls, *extra_index_url.split()])
    return Index(dependencies.index_url or index_url, tuple(extra))


def make_lock(entries: Sequence[Entry], python: str) -> Lock:
    """Sorted, so that the same packages make the same text. `packages` are those of this kind of machine."""
    ordered = sorted(entries, key=lambda e: (e.name, e.version, e.marker))
    here: dict[str, str] = {
        **cast(dict[str, str], default_environment()),
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    packages = {e.name: e.version for e in ordered if not e.marker or Marker(e.marker).evaluate(here)}
    return Lock(python=python, text="".join(f"{e.render()}\n" for e in ordered), packages=packages)


def read_entries(text: str) -> list[Entry]:
    """The entries of a requirements file with hashes, as uv writes it. Raises EnvironmentFailed for anything else."""
    entries: list[Entry] = []
    for head, hashes in _blocks(text):
        match = _ENTRY.match(head)
        if not match or not hashes:
            raise EnvironmentFailed(f"uv wrote a lock line without version or hash: {head[:200]!r}. Report this.")
        entries.append(Entry(match[1].lower(), match[2], (match[3] or "").strip(), tuple(sorted(set(hashes)))))
    return entries


def _blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    for block in text.replace("\\\n", " ").splitlines():
        line = block.strip()
        if not line or line.startswith("#") or _GIVEN.match(line):
            continue
        hashes = re.findall(r"--hash=(\S+)", line)
        yield re.sub(r"\s*--hash=\S+", "", line).strip(), hashes


def _only_wished(entries: Sequence[Entry], wishes: Sequence[Requirement]) -> list[Entry]:
    """Where a requirements file gave hashes, only those are kept: the user allowed exactly these files."""
    allowed = {wish.name: wish for wish in wishes if wish.hashes}
    kept = []
    for entry in entries:
        wish = allowed.get(entry.name)
        if wish:
            both = tuple(value for value in entry.hashes if value in wish.hashes)
            if not both:
                raise Question.no_such_hash(wish, entry.name, entry.version)
            entry = replace(entry, hashes=both)
        kept.append(entry)
    return kept


def _project(python: str) -> str:
    """Tells uv for which machines to resolve, and that wheels for this one must be there."""
    version = f"python_version == '{python}'"
    platforms = dict.fromkeys(["linux", sys.platform])
    wanted = [f"{version} and sys_platform == '{name}'" for name in platforms]
    here = f"{version} and sys_platform == '{sys.platform}' and platform_machine == '{platform.machine()}'"
    lines = ["[tool.uv]", f"environments = {_toml(wanted)}", f"required-environments = {_toml([here])}"]
    return "\n".join(lines) + "\n"


def _toml(texts: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{text}"' for text in texts) + "]"

"""What a manifest depends on: requirements that remember the file and line they came from.

`conda.py` and `requirements.py` read these from a file, `infer.py` makes them from a script, `lock.py` resolves them.
"""

from dataclasses import dataclass

from packaging.requirements import Requirement as IndexRequirement
from packaging.utils import canonicalize_name

from argosy.errors import InvalidDependencies


@dataclass(frozen=True)
class Requirement:
    """One wish: `text` as the package index understands it, `original` as it was written in line `line` of `file`.

    `line` counts from 1; 0 when it was not read from a file. `hashes` (`sha256:...`) are the only ones allowed, when
    there are any.
    """

    text: str
    file: str
    line: int = 0
    original: str = ""
    hashes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The normalised distribution name."""
        return str(canonicalize_name(IndexRequirement(self.text).name))

    @property
    def place(self) -> str:
        """`conda.yml line 7: numpy=9.9`, for messages."""
        where = f"{self.file} line {self.line}" if self.line else self.file
        return f"{where}: {self.original or self.text}"


@dataclass(frozen=True)
class PythonWish:
    """A wanted Python as version specifiers (`==3.8.*`; empty: any), and where that was said."""

    specifiers: str
    place: str


@dataclass(frozen=True)
class Dependencies:
    """`notes` tell what was mapped, dropped or passed over. `prerelease` is a requirements file's `--pre`."""

    requirements: tuple[Requirement, ...] = ()
    python: PythonWish | None = None
    index_url: str = ""
    extra_index_urls: tuple[str, ...] = ()
    prerelease: bool = False
    notes: tuple[str, ...] = ()


def unusable(file: str, line: int, problem: str) -> InvalidDependencies:
    """The error for one line of a dependency file."""
    where = f"{file} line {line}" if line else file
    return InvalidDependencies(f"{where}: {problem}", {"file": file, "line": line})


def combine(*parts: Dependencies) -> Dependencies:
    """All requirements of all parts, in order; of the rest the first that is given. Conflicts are the resolver's."""
    return Dependencies(
        requirements=tuple(requirement for part in parts for requirement in part.requirements),
        python=next((part.python for part in parts if part.python), None),
        index_url=next((part.index_url for part in parts if part.index_url), ""),
        extra_index_urls=tuple(dict.fromkeys(url for part in parts for url in part.extra_index_urls)),
        prerelease=any(part.prerelease for part in parts),
        notes=tuple(note for part in parts for note in part.notes),
    )

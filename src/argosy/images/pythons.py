"""Finds the Python interpreters of this machine, wherever pyenv, conda, uv, Homebrew or the system put them.

Nothing is believed from a name: each candidate is asked for its version, since a pyenv shim on PATH may only print an
error. Virtual environments are followed to the interpreter they were made from.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from argosy.errors import PythonNotFound

_PROBE_TIMEOUT_S = 15.0
_PROBE = (
    "import json,platform,sys;"
    "print(json.dumps([platform.python_implementation(),platform.python_version(),"
    "getattr(sys,'_base_executable',sys.executable),"
    "'t' if 'free-threading' in sys.version else sys.version_info[3]]))"
)
_CONDA_ROOTS = ("miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba", ".conda")
_FIXED_BINS = ("/usr/local/bin", "/usr/bin", "/opt/homebrew/bin", "/opt/conda/bin", "/home/linuxbrew/.linuxbrew/bin")
_NAME = re.compile(r"python3(\.\d+)?")


@dataclass(frozen=True)
class Python:
    """A CPython interpreter that ran when it was asked. `version` is the full one, `3.12.1`."""

    path: Path
    version: str

    @property
    def minor(self) -> str:
        return ".".join(self.version.split(".")[:2])


@dataclass(frozen=True)
class Places:
    """Where to look. `roots` hold one folder per version or environment, each with a `bin`."""

    bins: tuple[Path, ...] = ()
    roots: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()

    @classmethod
    def of_machine(cls, environ: Mapping[str, str] = os.environ) -> "Places":
        home = Path(environ.get("HOME") or "~").expanduser()
        conda = [home / name for name in _CONDA_ROOTS] + [Path("/opt/conda")]
        if environ.get("CONDA_PREFIX"):
            conda.insert(0, Path(environ["CONDA_PREFIX"]))
        if environ.get("CONDA_EXE"):
            conda.insert(0, Path(environ["CONDA_EXE"]).parent.parent)
        if environ.get("MAMBA_ROOT_PREFIX"):
            conda.insert(0, Path(environ["MAMBA_ROOT_PREFIX"]))
        data = Path(environ.get("XDG_DATA_HOME") or home / ".local/share")
        on_path = [Path(part) for part in environ.get("PATH", "").split(os.pathsep) if part.startswith("/")]
        bins = [Path(sys.base_prefix) / "bin", *on_path, *map(Path, _FIXED_BINS), *(root / "bin" for root in conda)]
        roots = [
            Path(environ.get("PYENV_ROOT") or home / ".pyenv") / "versions",
            Path(environ.get("UV_PYTHON_INSTALL_DIR") or data / "uv/python"),
            *(root / "envs" for root in conda),
        ]
        return cls(tuple(bins), tuple(roots), (Path(getattr(sys, "_base_executable", sys.executable)),))


def find_python(version: str, places: Places | None = None) -> Python:
    """The interpreter of `version` (`3.12`, or `3.12.4` for exactly that one) with the highest patch level.

    Raises PythonNotFound with the versions that are there.
    """
    places = places or Places.of_machine()
    wanted = tuple(version.split("."))
    minor = ".".join(wanted[:2])
    fitting = [
        python
        for python in _ask_all(_candidates(places, (f"python{minor}", "python3", "python")))
        if tuple(python.version.split("."))[: len(wanted)] == wanted
    ]
    if fitting:
        return max(fitting, key=_order)
    raise PythonNotFound(version, [python.version for python in list_pythons(places)])


def list_pythons(places: Places | None = None) -> list[Python]:
    """One interpreter per full version, oldest first."""
    found: dict[str, Python] = {}
    for python in _ask_all(_candidates(places or Places.of_machine(), None)):
        found.setdefault(python.version, python)
    return sorted(found.values(), key=_order)


def inspect_python(path: Path) -> Python | None:
    """What `path` says of itself; None when it does not run, hangs, or is no released CPython 3 with a GIL."""
    try:
        done = subprocess.run(
            [str(path), "-I", "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_TIMEOUT_S,
            check=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        )
        implementation, version, base, level = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    if implementation != "CPython" or level != "final" or not re.fullmatch(r"3\.\d+\.\d+", version):
        return None
    return Python(Path(base or path), version)


def _candidates(places: Places, names: tuple[str, ...] | None) -> Iterator[Path]:
    """Executables called one of `names`, or anything like python3.N when None; each real file once."""
    seen: set[str] = set()
    folders = [*places.bins, *(folder / "bin" for root in places.roots for folder in _listed(root))]
    for path in [*places.files, *(path for folder in folders for path in _named(folder, names))]:
        if not os.access(path, os.X_OK) or path.is_dir():
            continue
        real = os.path.realpath(path)
        if real not in seen:
            seen.add(real)
            yield path


def _named(folder: Path, names: tuple[str, ...] | None) -> list[Path]:
    if names is not None:
        return [folder / name for name in names]
    return [path for path in _listed(folder) if _NAME.fullmatch(path.name)]


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _ask_all(paths: Iterable[Path]) -> list[Python]:
    with ThreadPoolExecutor(max_workers=4) as pool:
        return [python for python in pool.map(inspect_python, paths) if python]


def _order(python: Python) -> tuple[int, ...]:
    return tuple(int(part) for part in python.version.split("."))

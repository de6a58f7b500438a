"""The command line in this process, against a fake control plane."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from argosy.cli.app import main
from sdk.fake_control_plane import TOKEN, FakeControlPlane


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Argosy = Callable[..., Ran]


@pytest.fixture
def fake() -> Iterator[FakeControlPlane]:
    server = FakeControlPlane()
    yield server
    server.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def argosy(fake: FakeControlPlane, home: Path) -> Argosy:
    """Run a command line: exit code, stdout, stderr."""

    def run(*words: str, **environ: str) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        known = {"ARGOSY_HOME": str(home), "ARGOSY_URL": fake.url, "ARGOSY_TOKEN": TOKEN, "PATH": "/usr/bin:/bin"}
        code = main(words, out, err, known | environ)
        return Ran(code, out.getvalue(), err.getvalue())

    return run

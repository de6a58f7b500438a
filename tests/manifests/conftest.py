"""Package indexes: one of hand-made wheels, and the real one of this machine's uv where it answers."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.manifests.package_index import PackageIndex, serve

from argosy.manifests.uv import run_uv


def fill(index: PackageIndex) -> PackageIndex:
    """alpha needs beta 1, gamma beta 2; delta is for other Pythons, omega for Windows; sigma has no wheel."""
    for version in ("1.0", "1.1", "2.0"):
        index.add("beta", version)
    index.add("alpha", "1.0", requires=["beta<2"])
    index.add("gamma", "3.0", requires=["beta>=2"])
    index.add("delta", "1.0", requires_python="<3.12")
    index.add("delta", "2.0", requires_python=">=3.13")
    index.add_source("sigma", "1.0")
    index.add("omega", "1.0", tag="cp312-cp312-win_amd64")
    index.add("epsilon", "1.0", requires=["sigma"])
    index.add("serving", "1.0", requires=["beta==2.0"])
    return index


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PackageIndex]:
    """An index on loopback, and a uv with an empty cache and no configuration of this machine."""
    for name in [name for name in os.environ if name.startswith("UV_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    made = fill(PackageIndex())
    server = serve(made)
    yield made
    made.gate.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def real_index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The index that uv is configured for; what needs it is left out where it does not answer."""
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.in").write_text("six\n")
    if run_uv(["pip", "compile", "probe.in", "--quiet"], folder).code:
        pytest.skip("needs a package index: connect to the network or set UV_DEFAULT_INDEX")

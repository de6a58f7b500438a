"""`import argosy` gives exactly the public names, and loads what they need only when they are used."""

import importlib.metadata
import subprocess
import sys

import argosy
from argosy.sdk.client import Client


def test_the_names_are_exact_sorted_and_there() -> None:
    assert argosy.__all__ == ["AsyncClient", "Client", "Error", "__version__", "connect", "schema"]
    assert argosy.__all__ == sorted(argosy.__all__)
    assert dir(argosy) == argosy.__all__
    for name in argosy.__all__:
        assert getattr(argosy, name) is not None
    assert argosy.Client is Client
    assert not hasattr(argosy, "nothing")


def test_the_version_is_the_distributions() -> None:
    assert argosy.__version__ == importlib.metadata.version("argosy")


def test_importing_the_package_loads_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import argosy; print(sorted(set(sys.modules) - before))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() in ("['__future__', 'argosy']", "['argosy']")


def test_the_blocking_client_needs_no_heavy_package() -> None:
    code = "import argosy, sys; argosy.connect; print([m for m in ('httpx', 'pydantic', 'rich') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

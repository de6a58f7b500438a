"""What a command loads before it does anything. Times are printed by `bench/`, never asserted."""

import subprocess
import sys

import pytest

HEAVY = ("httpx", "fastapi", "pydantic", "sqlalchemy", "pandas", "numpy", "rich", "yaml", "shtab", "psutil", "alembic")


def loaded(*words: str) -> set[str]:
    """Modules in memory when the command ends."""
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('LOADED', *sys.modules, file=sys.stderr))\n"
        f"from argosy.cli import main\nsys.exit(main({list(words)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    line = next(line for line in done.stderr.splitlines() if line.startswith("LOADED"))
    return set(line.split())


@pytest.mark.parametrize("words", [("--help",), ("version",), ()])
def test_cheap_commands_load_only_what_they_are(words: tuple[str, ...]) -> None:
    found = loaded(*words)
    assert found.isdisjoint(HEAVY)
    assert found.isdisjoint({"argosy.records", "argosy.errors", "argosy.settings", "http.client", "dataclasses"})
    assert found.isdisjoint({"argosy.cli.model", "argosy.cli.service", "argosy.cli.control"})


@pytest.mark.parametrize("words", [("model", "--help"), ("service", "create", "--help"), ("model", "list")])
def test_other_commands_load_no_server_and_no_async_client(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGOSY_URL", "http://127.0.0.1:1")
    found = loaded(*words)
    assert found.isdisjoint(HEAVY)
    assert not {name for name in found if name.startswith(("argosy.store", "argosy.server", "argosy.services"))}
    assert "argosy.cli.control" not in found

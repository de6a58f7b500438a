"""`argosy image login` at a real registry with TLS and passwords, through a running control plane."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.running import Argosy
from images.distribution.docker_registry import PASSWORD, USER, make_certificate, serve


@pytest.fixture
def certificate(require: Callable[[str], str], tmp_path: Path) -> tuple[Path, Path]:
    return make_certificate(require("openssl"), tmp_path)


@pytest.fixture
def registry(require: Callable[[str], str], tmp_path: Path, certificate: tuple[Path, Path]) -> Iterator[str]:
    with serve(require("docker-registry"), tmp_path / "registry", certificate) as host:
        yield host


def log_in(argosy: Argosy, host: str, password: str) -> subprocess.CompletedProcess[str]:
    words = ["image", "login", host, "-u", USER, "--password-stdin"]
    return subprocess.run(
        [sys.executable, "-m", "argosy.cli", *words],
        env=argosy.environ, input=password + "\n", capture_output=True, text=True,
    )  # fmt: skip


def test_a_login_is_tried_kept_and_forgotten(fresh: Argosy, registry: str, certificate: tuple[Path, Path]) -> None:
    fresh.up()
    refused = log_in(fresh, registry, PASSWORD)
    assert (refused.returncode, "is not trusted" in refused.stderr) == (2, True), refused.stderr
    fresh.ok("down")
    fresh.variables["ARGOSY_REGISTRY_CA_FILE"] = str(certificate[0])
    fresh.up()
    refused = log_in(fresh, registry, "wrong-password")
    assert (refused.returncode, f"did not accept the login of {USER}" in refused.stderr) == (1, True), refused.stderr
    assert not (fresh.home / "registries.json").exists()
    done = log_in(fresh, registry, PASSWORD)
    assert (done.returncode, registry in done.stdout) == (0, True), done.stderr
    assert list(json.loads((fresh.home / "registries.json").read_text())) == [registry]
    fresh.ok("image", "logout", registry)
    assert registry in fresh.fails("image", "logout", registry)
    secrets = [PASSWORD.encode(), b"wrong-password"]
    written = [path for path in fresh.home.rglob("*") if path.is_file()]
    assert [path for path in written for secret in secrets if secret in path.read_bytes()] == []

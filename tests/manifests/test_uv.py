import threading
from pathlib import Path

import psutil
import pytest

from argosy.errors import EnvironmentFailed
from argosy.manifests.uv import Index, environment, redact, run_uv


def test_the_environment_is_built_on_purpose() -> None:
    made = environment(
        Index("https://own.example", ("https://a.example", "https://b.example")),
        {
            "PATH": "/bin",
            "HOME": "/home/u",
            "https_proxy": "http://proxy",
            "SSL_CERT_FILE": "/ca.pem",
            "UV_CACHE_DIR": "/cache",
            "UV_INDEX": "https://c.example",
            "UV_INDEX_URL": "https://old.example",
            "UV_NO_VERIFY_HASHES": "1",
            "UV_PYTHON": "3.8",
            "UV_PROJECT": "/elsewhere",
            "PYTHONPATH": "/evil",
            "AWS_SECRET_ACCESS_KEY": "secret",
        },
    )
    assert made == {
        "PATH": "/bin",
        "HOME": "/home/u",
        "https_proxy": "http://proxy",
        "SSL_CERT_FILE": "/ca.pem",
        "UV_CACHE_DIR": "/cache",
        "UV_DEFAULT_INDEX": "https://own.example",
        "UV_INDEX": "https://a.example https://b.example https://c.example",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
        "NO_COLOR": "1",
    }


def test_without_an_index_of_ours_the_users_counts() -> None:
    assert environment(Index(), {"UV_INDEX_URL": "https://own.example"})["UV_INDEX_URL"] == "https://own.example"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("from https://user:pw@x.example/simple", "from https://***@x.example/simple"),
        ("from https://token@x.example", "from https://***@x.example"),
        ("from https://x.example/a@b", "from https://x.example/a@b"),
    ],
)
def test_credentials_are_not_shown(line: str, wanted: str) -> None:
    assert redact(line) == wanted


def test_a_run_returns_output_and_code(tmp_path: Path) -> None:
    done = run_uv(["--version"], tmp_path)
    assert done.code == 0
    assert done.stdout.startswith("uv ")
    lines: list[str] = []
    failed = run_uv(["no-such-command"], tmp_path, on_line=lines.append)
    assert failed.code != 0
    assert "no-such-command" in failed.text
    assert lines


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match="could not be started"):
        run_uv(["--version"], tmp_path / "gone")


def test_a_callback_that_raises_leaves_no_process(tmp_path: Path) -> None:
    def stop(line: str) -> None:
        raise RuntimeError(line)

    def children() -> set[int]:
        return {process.pid for process in psutil.Process().children()}

    threads, before = threading.active_count(), children()
    with pytest.raises(RuntimeError):
        run_uv(["no-such-command"], tmp_path, on_line=stop)
    assert threading.active_count() <= threads + 1
    assert children() <= before

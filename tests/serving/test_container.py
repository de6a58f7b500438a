"""A replica that gets its orders from environment variables, as in a container."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from argosy_serving.container import write_orders
from argosy_serving.settings import SettingsFile
from argosy_serving.spec import InvalidSpec, load_image, load_spec
from serving.conftest import PYTHON, SOURCE

SCRIPT = (
    "import os\n\ndef run(body):\n    return [os.environ.get('ARGOSY_KEYS'), os.environ['OMP_NUM_THREADS'], body]\n"
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image folder as it lies in a container: `image.json` names neither models nor digests."""
    folder = tmp_path / "image"
    (folder / "code").mkdir(parents=True)
    (folder / "models" / "iris" / "3").mkdir(parents=True)
    (folder / "models" / "iris" / "3" / "model.pkl").write_bytes(b"model")
    (folder / "code" / "score.py").write_text(SCRIPT)
    shared: dict[str, Any] = {"script": "score.py", "schema": None, "samples": None, "serving": {}, "environment": {}}
    (folder / "image.json").write_text(json.dumps(shared))
    return folder


def orders(image: Path, **variables: str) -> tuple[Any, Any, dict[str, str]]:
    environ = {"ARGOSY_IMAGE": str(image), "ARGOSY_KEYS": "first", **variables}
    spec = load_spec(write_orders(environ))
    return spec, SettingsFile(spec.settings).current, environ


def test_the_models_are_those_that_lie_there(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGOSY_IMAGE_DIGEST", "f" * 64)
    found = load_image(image)
    assert [str(model) for model in found.models] == ["iris:3"] and found.digest == "f" * 64


def test_defaults_listen_on_5001_under_the_models_name(image: Path) -> None:
    spec, settings, environ = orders(image)
    assert (str(spec.listen), spec.service, spec.slots) == ("0.0.0.0:5001", "iris", 1)
    assert settings.keys == (hashlib.sha256(b"first").digest(),) and settings.auth
    assert "ARGOSY_KEYS" not in environ and environ["SERVICE_NAME"] == "iris"


def test_variables_become_spec_and_settings(image: Path) -> None:
    hashed = hashlib.sha256(b"second").hexdigest()
    spec, settings, environ = orders(
        image,
        ARGOSY_KEYS=f"first, sha256:{hashed}",
        ARGOSY_SERVICE="flowers",
        ARGOSY_HOST="127.0.0.1",
        ARGOSY_PORT="8080",
        ARGOSY_MAX_CONCURRENT_REQUESTS="4",
        ARGOSY_MAX_QUEUED_REQUESTS="20",
        ARGOSY_REQUEST_TIMEOUT_MS="1000",
        ARGOSY_OVERLOAD_STATUS="503",
        ARGOSY_PUBLIC_DOCS="true",
        ARGOSY_LOG_LEVEL="WARNING",
        ARGOSY_INIT_TIMEOUT_S="1.5",
        OMP_NUM_THREADS="7",
    )
    assert (str(spec.listen), spec.service, spec.slots, spec.init_timeout_s) == ("127.0.0.1:8080", "flowers", 4, 1.5)
    assert [key.hex() for key in settings.keys] == [hashlib.sha256(b"first").hexdigest(), hashed]
    assert (settings.max_queued_requests, settings.request_timeout_ms) == (20, 1000)
    assert (settings.overload_status, settings.public_docs, settings.log_level) == (503, True, "warning")
    assert environ["OMP_NUM_THREADS"] == "7" and int(environ["OPENBLAS_NUM_THREADS"]) >= 1


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"ARGOSY_KEYS": ""}, "Set ARGOSY_KEYS"),
        ({"ARGOSY_KEYS": " , "}, "Set ARGOSY_KEYS"),
        ({"ARGOSY_KEYS": "", "ARGOSY_AUTH": "on"}, "Set ARGOSY_KEYS"),
        ({"ARGOSY_PORT": "http"}, "ARGOSY_PORT cannot be 'http'"),
        ({"ARGOSY_PORT": "70000"}, "ARGOSY_PORT"),
        ({"ARGOSY_MAX_QUEUED_REQUESTS": "many"}, "ARGOSY_MAX_QUEUED_REQUESTS cannot be 'many'"),
        ({"ARGOSY_MAX_QUEUED_REQUESTS": "-1"}, "max_queued_requests must be at least 0"),
        ({"ARGOSY_MAX_CONCURRENT_REQUESTS": "0"}, "slots"),
        ({"ARGOSY_OVERLOAD_STATUS": "200"}, "overload_status"),
        ({"ARGOSY_PUBLIC_DOCS": "perhaps"}, "ARGOSY_PUBLIC_DOCS cannot be 'perhaps'"),
        ({"ARGOSY_LOG_LEVEL": "loud"}, "log_level"),
        ({"ARGOSY_SERVICE": "Not A Name"}, "service"),
        ({"TMPDIR": "/nowhere"}, "--tmpfs /tmp"),
    ],
)
def test_wrong_variables_are_named(
    image: Path, variables: dict[str, str], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "TMPDIR" in variables:
        monkeypatch.setattr("tempfile.tempdir", variables["TMPDIR"])
    with pytest.raises(InvalidSpec, match=re.escape(problem)):
        orders(image, **variables)


def test_without_keys_everybody_may_call_only_when_that_was_said(image: Path) -> None:
    _, settings, _ = orders(image, ARGOSY_KEYS="", ARGOSY_AUTH="off")
    assert settings.keys == () and not settings.auth
    _, settings, _ = orders(image, ARGOSY_AUTH="off")
    assert settings.auth, "keys win"


@pytest.fixture
def running(image: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(SOURCE),
        "TMPDIR": str(tmp_path),
        "ARGOSY_IMAGE": str(image),
        "ARGOSY_KEYS": "first second",
        "ARGOSY_HOST": "127.0.0.1",
        "ARGOSY_PORT": str(_free_port()),
    }
    replica = subprocess.Popen([PYTHON, "-m", "argosy_serving"], env=environ, stdout=subprocess.PIPE, text=True)
    yield replica, int(environ["ARGOSY_PORT"])
    replica.kill()
    replica.wait()
    assert replica.stdout is not None
    replica.stdout.close()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _call(port: int, path: str, key: str, body: bytes | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as problem:
        return problem.code, problem.read()


def test_it_serves_with_each_key_and_ends_when_told(running: tuple[subprocess.Popen[str], int]) -> None:
    replica, port = running
    for _ in range(300):
        try:
            if _call(port, "/readyz", "")[0] == 200:
                break
        except OSError:
            pass
        time.sleep(0.1)
    status, body = _call(port, "/score", "second", b'"x"')
    assert status == 200, body
    keys, threads, seen = json.loads(body)
    assert keys is None, "user code does not see the keys"
    assert int(threads) >= 1 and seen == '"x"'
    assert _call(port, "/api/v1/service/iris/score", "first", b'"x"')[0] == 200
    assert _call(port, "/score", "wrong", b'"x"')[0] == 401
    replica.send_signal(signal.SIGTERM)
    assert replica.wait(30) == 0


def test_without_keys_it_says_what_to_set(image: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "ARGOSY_IMAGE": str(image)}
    done = subprocess.run([sys.executable, "-m", "argosy_serving"], env=environ, capture_output=True, text=True)
    assert done.returncode == 3 and "Set ARGOSY_KEYS" in done.stderr and "Traceback" not in done.stderr

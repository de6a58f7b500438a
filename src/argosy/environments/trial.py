"""One replica for a moment: started from an image's own environment, asked its samples, and ended.

It belongs to no service, so nothing here is seen by the reconciler. Its image folder is the real one but for the
samples: those are asked from outside, one by one, so that each is told apart and timed.
"""

import contextlib
import http.client
import json
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from argosy.environments.admin import UnixConnection, ask
from argosy.environments.foreign import open_foreign, read_foreign
from argosy.environments.process import replica_variables
from argosy.environments.processes import Identity, end_session
from argosy.environments.target import Launch
from argosy.errors import StorageFailed
from argosy_serving.comparing import differs

LARGEST_ANSWER_BYTES = 1_000_000
_LOOK_EVERY_S = 0.05
_STOP_S = 10.0
_LOG_BYTES = 200_000
_TIMING = re.compile(r"(\w+);dur=([0-9.]+)")
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Answered:
    """One sample's answer. `difference` tells where it is not the recorded one; `times_ms` are of the stages."""

    input: Any
    status: int
    output: Any = None
    recorded: Any = None
    difference: str = ""
    times_ms: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.status == 200 and not self.difference


@dataclass(frozen=True)
class Tried:
    """How it went. `failure` says why the replica did not become ready, "" when it did; `log` are its JSON lines."""

    failure: str
    load_s: float
    answers: list[Answered] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Limits:
    init_timeout_s: float = 600.0
    request_timeout_s: float = 60.0
    max_queued_requests: int = 10


class Trial:
    """A replica in a folder of its own below `root`, which must be short: sockets lie there. Use it in `with`."""

    def __init__(self, root: Path, launch: Launch, limits: Limits, check: Callable[[], None]) -> None:
        """`check` is called while waiting, and may raise to give up."""
        self._folder = root / secrets.token_hex(4)
        # Where its sockets and its log are.
        self._shared = self._folder
        self._launch, self._limits, self._check = launch, limits, check
        self._process: subprocess.Popen[bytes] | None = None
        self._identity: Identity | None = None

    def __enter__(self) -> "Trial":
        try:
            self._start()
        except OSError as problem:
            self._remove()
            raise StorageFailed(
                f"The replica to test with could not be started: {problem.strerror or problem} "
                f"({problem.filename or self._folder})."
            ) from problem
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._remove()

    def _stop(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_STOP_S)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()

    @property
    def socket(self) -> str:
        return str(self._shared / "sock")

    @property
    def _lives(self) -> bool:
        assert self._process is not None
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def identity(self) -> dict[str, Any] | None:
        """By this a later control plane ends it, see `end_leftover`."""
        return asdict(self._identity) if self._identity else None

    def ask(self, samples: Sequence[Mapping[str, Any]], has_schema: bool) -> Tried:
        """Wait until it is ready, then send the samples in order."""
        started = time.monotonic()
        failure = self.wait_until_ready()
        load_s = time.monotonic() - started
        answers = [] if failure else [self._answer(sample, has_schema) for sample in samples]
        return Tried(failure, load_s, answers, self.log())

    def _start(self) -> None:
        folder, launch = self._folder, self._launch
        folder.mkdir(mode=0o700, parents=True)
        image = folder / "image"
        image.mkdir()
        for name in ("code", "models"):
            (image / name).symlink_to(launch.image_folder / name)
        description = json.loads((launch.image_folder / "image.json").read_text())
        if description.get("samples"):
            description["samples"] = None
        (image / "image.json").write_text(json.dumps(description))
        settings = self._settings()
        (folder / "settings.json").write_text(json.dumps(settings))
        spec = {
            "id": f"{launch.service}-test",
            "service": launch.service,
            "revision": launch.revision,
            "image": str(image),
            "listen": {"unix": str(folder / "sock")},
            "admin": {"unix": str(folder / "admin")},
            "failure": str(folder / "failure.json"),
            "scratch": str(folder / "scratch"),
            "settings": str(folder / "settings.json"),
            "log": str(folder / "log"),
            "init_timeout_s": self._limits.init_timeout_s,
            "slots": launch.slots,
            "max_batch_size": launch.max_batch_size,
        }
        (folder / "spec.json").write_text(json.dumps(spec))
        with (folder / "log").open("ab") as output:
            self._process = subprocess.Popen(
                [str(launch.python), "-m", "argosy_serving", str(folder / "spec.json")],
                cwd=folder,
                env=replica_variables(replace(launch, image_folder=image), str(spec["id"])),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._identity = Identity.of(self._process.pid)

    def _settings(self) -> dict[str, Any]:
        timeout_ms = int(self._limits.request_timeout_s * 1000)
        return {
            "generation": 1,
            "auth": False,
            "keys": [],
            "request_timeout_ms": timeout_ms,
            "max_queue_wait_ms": timeout_ms,
            "max_queued_requests": self._limits.max_queued_requests,
        }

    def _remove(self) -> None:
        if self._identity is not None:
            end_session(self._identity)
        shutil.rmtree(self._folder, ignore_errors=True)

    def wait_until_ready(self) -> str:
        """Why it did not become ready; "" when it did."""
        started = time.monotonic()
        while self._lives:
            self._check()
            status = ask(str(self._shared / "admin"), "GET", "/status") or {}
            if status.get("state") == "ready":
                return ""
            if time.monotonic() - started > self._limits.init_timeout_s + _STOP_S:
                return f"init() took longer than {self._limits.init_timeout_s:g} seconds."
            time.sleep(_LOOK_EVERY_S)
        return self._failure()

    def _failure(self) -> str:
        try:
            return str(json.loads(read_foreign(self._shared / "failure.json"))["reason"])
        except (OSError, ValueError, KeyError, TypeError):
            return self._end()

    def _end(self) -> str:
        assert self._process is not None
        return f"The replica ended by itself with exit code {self._process.returncode}."

    def _answer(self, sample: Mapping[str, Any], has_schema: bool) -> Answered:
        self._check()
        given, body = sample.get("input"), body_of(sample, has_schema)
        connection = UnixConnection(self.socket, self._limits.request_timeout_s + _STOP_S)
        try:
            connection.request("POST", "/score", body.encode(), {"content-type": "application/json"})
            response = connection.getresponse()
            content = response.read(LARGEST_ANSWER_BYTES + 1)
            timing = response.getheader("server-timing") or ""
        except (OSError, http.client.HTTPException) as problem:
            return Answered(given, 0, f"no answer: {problem or type(problem).__name__}; {self._ended()}")
        finally:
            connection.close()
        times = {name: float(text) for name, text in _TIMING.findall(timing)}
        output = _decoded(content)
        difference = ""
        if response.status == 200 and sample.get("output") is not None:
            relative, absolute = _tolerances(sample.get("tolerance"))
            difference = differs(sample["output"], output, relative, absolute)
        return Answered(
            given, response.status, output, sample.get("output"), difference, times, _warnings(output, content)
        )

    def _ended(self) -> str:
        return "the replica lives" if self._lives else self._failure()

    def log(self) -> list[str]:
        """Its last lines of JSON."""
        try:
            with open_foreign(self._shared / "log") as log:
                size_bytes = log.seek(0, 2)
                log.seek(max(0, size_bytes - _LOG_BYTES))
                return log.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []


def body_of(sample: Mapping[str, Any], has_schema: bool) -> str:
    """The request body that a sample stands for."""
    given = sample.get("input")
    return given if isinstance(given, str) and not has_schema else json.dumps(given, ensure_ascii=False)


def end_leftover(identity: Mapping[str, Any]) -> None:
    """Kill the replica of a trial whose control plane is gone."""
    Identity(**identity).kill()


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return content.decode("utf-8", "replace")[:LARGEST_ANSWER_BYTES]


def _tolerances(given: Any) -> tuple[float, float]:
    if isinstance(given, Mapping):
        return float(given.get("relative", _TOLERANCE)), float(given.get("absolute", _TOLERANCE))
    return _TOLERANCE, _TOLERANCE


def _warnings(output: Any, content: bytes) -> list[str]:
    if len(content) > LARGEST_ANSWER_BYTES:
        return [f"The answer is larger than {LARGEST_ANSWER_BYTES:,} bytes; only its beginning is shown."]
    if isinstance(output, str) and output.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(output)
            return [
                "run() returns a string that holds JSON, so callers must decode twice. Return the object itself, or "
                "send strings as they are with --string-answers raw."
            ]
    return []

"""Argosy's own rows: a bare replica, one that batches, and the whole of it behind its gateway."""

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import argosy
import argosy_serving
from argosy.errors import NotRunning
from bench import connections, environments, machine, process_tree
from bench.cases import COLUMNS, Case, value_of
from bench.connections import Target
from bench.peers import model_environ

REPLICA, BATCHING, GATEWAY = "argosy", "argosy-batch", "argosy-gateway"
TITLES = {
    REPLICA: "Argosy, one replica",
    BATCHING: "Argosy, one replica that batches",
    GATEWAY: "Argosy behind its gateway",
}
NOTES = {
    REPLICA: "`max_concurrent_requests` 1; key, schema, admission, metrics and request id as always",
    BATCHING: "the same with `max_batch_size` 32, `max_batch_delay_ms` 0",
    GATEWAY: "control plane, HAProxy and one replica, all on the server's core",
}
SOURCE = machine.ROOT / "src"
KEY = "bench"
WIDE = {"max_queued_requests": 100_000, "max_queue_wait_ms": 60_000}
BATCHES = {"max_batch_size": 32, "max_batch_delay_ms": 0}
_START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Start:
    argv: Sequence[str | Path]
    environ: Mapping[str, str]
    target: Target
    health: Target | None


def runtime_requirements() -> list[str]:
    """What a replica adds to a model's environment, in the versions of requirements.lock."""
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", (machine.ROOT / "requirements.lock").read_text(), re.M))
    names = [re.split(r"[<>=;\s]", requirement)[0] for requirement in argosy_serving.REQUIREMENTS]
    return [f"{name}=={locked[name]}" for name in names]


def python() -> Path:
    """The interpreter of a model's environment with what a replica needs, and pyarrow for the Arrow body."""
    wanted = (*environments.MODEL_PACKAGES, *runtime_requirements(), "pyarrow")
    return environments.python_of(REPLICA, wanted)


def plain_python() -> Path:
    """The same without pyarrow, which is the model's own affair: for what a replica adds in size."""
    return environments.python_of("argosy-plain", (*environments.MODEL_PACKAGES, *runtime_requirements()))


def runtime_size_bytes() -> int:
    """The serving code itself, which is copied into each image."""
    return sum(path.stat().st_size for path in (SOURCE / "argosy_serving").rglob("*") if path.suffix != ".pyc")


def schema(case: Case) -> dict[str, Any]:
    entries: dict[str, Any] = {
        "none": {"type": "standard", "swagger": {}},
        "array": {"type": "numpy", "dtype": "float64", "shape": [None, 4 if len(value_of(case)[0]) == 4 else 20]},
        "frame": {"type": "pandas", "columns": [{"name": name, "dtype": "float64"} for name in COLUMNS]},
    }
    return {"input": {"x": entries[case.decode]}}


def prepare_replica(
    folder: Path, case: Case, overload: bool, batching: bool = False, unix: str = "", with_python: Path | None = None
) -> Start:
    """The files of a replica as the control plane would lay them, and its command."""
    image = folder / "image"
    (image / "code").mkdir(parents=True)
    (image / "code" / "score.py").write_bytes((machine.APPS / "argosy_score.py").read_bytes())
    (image / "code" / "work.py").write_bytes((machine.APPS / "work.py").read_bytes())
    sample = value_of(case) if len(value_of(case)) < 1000 else value_of(case)[:1]
    document = {"digest": "bench", "name": "bench:1", "models": [], "script": "score.py", "schema": schema(case),
                "samples": [{"input": {"x": sample}}], "serving": BATCHES if batching else {}}  # fmt: skip
    (image / "image.json").write_text(json.dumps(document))
    limits = {} if overload else WIDE
    key = hashlib.sha256(KEY.encode()).hexdigest()
    (folder / "settings.json").write_text(json.dumps({"keys": [key], **limits}))
    port = machine.free_port()
    spec = {"id": "bench-1", "service": "bench", "revision": 1, "image": str(image),
            "listen": {"unix": unix} if unix else {"host": "127.0.0.1", "port": port},
            "scratch": str(folder / "scratch"), "settings": str(folder / "settings.json"),
            "log": str(folder / "server.log")}  # fmt: skip
    (folder / "spec.json").write_text(json.dumps(spec))
    body, kind = encoded(case)
    target = Target(port, "/score", body, _headers(KEY, kind), unix=unix)
    argv: list[str | Path] = [with_python or python(), "-m", "argosy_serving", folder / "spec.json"]
    return Start(argv, {"PYTHONPATH": str(SOURCE)}, target, target.get("/livez"))


def check_batching(target: Target) -> None:
    """A replica that batches counts its batches; one that does not know how passes over the manifest's wish."""
    if b"batch" not in connections.ask(target.get("/metrics"))[1]:
        raise RuntimeError("batching is not supported by this version")


def encoded(case: Case) -> tuple[bytes, str]:
    """The body and its content type."""
    if not case.arrow:
        return json.dumps({"x": value_of(case)}).encode(), "application/json"
    import pyarrow as pa

    numbers = pa.array([number for row in value_of(case) for number in row], pa.float64())
    table = pa.table({"x": pa.FixedSizeListArray.from_arrays(numbers, len(value_of(case)[0]))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes(), "application/vnd.apache.arrow.stream"


def _headers(key: str, kind: str) -> dict[str, str]:
    return {"Content-Type": kind, "Authorization": f"Bearer {key}"}


@dataclass
class Home:
    """A whole Argosy in a home of its own. Environments are kept between runs."""

    folder: Path
    cores: Sequence[int] = (machine.SERVER_CORE,)
    tree: process_tree.Tree | None = None
    _later: list[process_tree.Tree] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def environ(self) -> dict[str, str]:
        return machine.clean_environ(ARGOSY_HOME=str(self.home))

    def start(self) -> process_tree.Tree:
        """The control plane in the foreground, with its gateway and replicas below the launcher."""
        kept = machine.cache() / GATEWAY / "envs"
        kept.mkdir(parents=True, exist_ok=True)
        kept.chmod(0o700)
        self.home.mkdir(mode=0o700, exist_ok=True)
        if not (self.home / "envs").exists():
            (self.home / "envs").symlink_to(kept)
        command = [sys.executable, "-m", "argosy.server", "--port", "0", "--gateway-port", "0"]
        self.tree = process_tree.start(command, self.environ, self.folder, self.cores, keep=True)
        self.wait()
        return self.tree

    def wait(self) -> None:
        until = time.monotonic() + _START_TIMEOUT_S
        while True:
            with contextlib.suppress(NotRunning):
                argosy.connect(home=self.home).status()
                return
            if time.monotonic() > until:
                raise RuntimeError("the control plane did not start")
            time.sleep(0.02)

    def restart(self) -> None:
        """Another control plane after the first was killed; replicas and gateway are adopted."""
        command = [sys.executable, "-m", "argosy.server"]
        self._later.append(process_tree.start(command, self.environ, self.folder, self.cores, keep=True))
        self.wait()

    def stop(self) -> None:
        """The control plane first; then what it leaves running, as `argosy down` does."""
        if self.tree is not None:
            for tree in (self.tree, *self._later):
                for process in tree.control_planes():
                    process.terminate()
                    process.wait(_START_TIMEOUT_S)
            subprocess.run([sys.executable, "-m", "argosy.server", "--stop-all"], env=self.environ, check=False)
            for tree in (*self._later, self.tree):
                tree.stop()

    def run(self, *arguments: object) -> str:
        """`argosy ARGUMENTS`, which must succeed."""
        command = [sys.executable, "-m", "argosy.cli", *map(str, arguments)]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise RuntimeError(f"argosy {' '.join(map(str, arguments[:3]))}: {done.stderr.strip()}")
        return done.stdout

    def create(self, case: Case, name: str = "bench", *options: object) -> None:
        """A service of this case from its files: model, script, schema, requirements."""
        self.run("service", "create", name, *self.recipe(case), *options)

    def recipe(self, case: Case) -> list[object]:
        files = self.folder / "recipe"
        files.mkdir(exist_ok=True)
        (files / "schema.json").write_text(json.dumps(schema(case)))
        (files / "requirements.txt").write_text("\n".join(environments.MODEL_PACKAGES))
        (files / "score.py").write_bytes((machine.APPS / "argosy_score.py").read_bytes())
        (files / "sample.json").write_text(json.dumps({"x": value_of(case)[:100]}))
        variables = [option for k, v in model_environ(case).items() for option in ("-e", f"{k}={v}")]
        return ["-m", environments.model_file(case.work), "-f", files / "score.py", "-D", machine.APPS / "work.py",
                "-s", files / "schema.json", "-p", files / "requirements.txt", "--sample", files / "sample.json",
                *variables]  # fmt: skip

    def target(self, case: Case, name: str = "bench") -> Target:
        address = json.loads((self.home / "address.json").read_text())
        key = json.loads(self.run("service", "keys", name, "-o", "json"))["primary"]
        body, kind = encoded(case)
        return Target(int(address["gateway_port"]), f"/api/v1/service/{name}/score", body, _headers(key, kind))


@contextlib.contextmanager
def home(folder: Path, cores: Sequence[int] = (machine.SERVER_CORE,)) -> Iterator[Home]:
    running = Home(folder, cores)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@contextlib.contextmanager
def behind_gateway(folder: Path, case: Case, overload: bool) -> Iterator[tuple[process_tree.Tree, Target, Target]]:
    limits = [] if overload else ["--max-queued-requests", 100_000, "--max-queue-wait-ms", 60_000]
    with home(folder) as running:
        running.create(case, "bench", *limits)
        target = running.target(case)
        assert running.tree is not None
        yield running.tree, target, target.get("/api/v1/service/bench/")


def source_digest() -> str:
    """Which code was measured, in eight letters."""
    digest = hashlib.sha256()
    for path in sorted(SOURCE.rglob("*.py")):
        digest.update(os.fsencode(path.relative_to(SOURCE)))
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]

"""The servers that take part: what is installed, how each is started as its manual says, and how it is asked.

Every one gets one worker and one core. A server decodes and encodes as its own manual recommends; the models are the
same files (apps/work.py).
"""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import environments, machine
from bench.cases import Case, value_of

_UVICORN = ("uvicorn==0.54.0", "uvloop", "httptools")
# Its workers need an event loop that uvloop 0.22 no longer makes.
_MLSERVER = ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "uvloop==0.21.0")
_SKLEARN = ("iris", "forest", "boosted")


@dataclass(frozen=True)
class Command:
    """How a server is started, and where it answers."""

    argv: Sequence[str | Path]
    environ: Mapping[str, str] = field(default_factory=dict)
    port: int = 0


@dataclass(frozen=True)
class Peer:
    """`prepare` writes what the server needs into a folder, before the clock of the cold start runs."""

    name: str
    title: str
    requirements: Sequence[str]
    package: str
    path: str
    prepare: Callable[[Path, Path, Case], Command]
    body: Callable[[Case], Any] = lambda case: {"x": value_of(case)}
    health: str = ""
    note: str = ""
    environment: str = ""  # of its own unless named

    def python(self) -> Path:
        return environments.python_of(self.environment or self.name, (*environments.MODEL_PACKAGES, *self.requirements))

    def encoded(self, case: Case) -> bytes:
        return json.dumps(self.body(case)).encode()


def _app(folder: Path, *names: str) -> None:
    for name in ("work.py", *names):
        (folder / name).write_bytes((machine.APPS / name).read_bytes())


def _uvicorn(app: str) -> Callable[[Path, Path, Case], Command]:
    def prepare(python: Path, folder: Path, case: Case) -> Command:
        _app(folder, f"{app}.py")
        port = machine.free_port()
        options = ["--http", "httptools", "--loop", "uvloop", "--no-access-log", "--log-level", "warning"]
        return Command([python, "-m", "uvicorn", f"{app}:app", "--port", str(port), *options], port=port)

    return prepare


def _mlserver(workers: int) -> Callable[[Path, Path, Case], Command]:
    def prepare(python: Path, folder: Path, case: Case) -> Command:
        _app(folder, "mlserver_runtime.py")
        port = machine.free_port()
        settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": machine.free_port(), "debug": False,
                    "metrics_port": machine.free_port(), "parallel_workers": workers}  # fmt: skip
        own = case.work in _SKLEARN
        model = {
            "name": "m",
            "implementation": "mlserver_sklearn.SKLearnModel" if own else "mlserver_runtime.Runtime",
            "parameters": {"uri": str(environments.model_file(case.work))} if own else {},
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        (folder / "model-settings.json").write_text(json.dumps(model))
        return Command([python.with_name("mlserver"), "start", "."], {"PYTHONPATH": str(folder)}, port)

    return prepare


def _mlserver_body(case: Case) -> Any:
    value = value_of(case)
    flat = [number for row in value for number in row]
    shape = [len(value), len(value[0])]
    return {"inputs": [{"name": "x", "shape": shape, "datatype": "FP64", "data": flat}]}


def _bentoml(python: Path, folder: Path, case: Case) -> Command:
    _app(folder, "bento_service.py")
    port = machine.free_port()
    environ = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(folder / "home")}
    command: list[str | Path] = [
        python.with_name("bentoml"),
        "serve",
        "bento_service:Model",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    return Command(command, environ, port)


def _mlflow(python: Path, folder: Path, case: Case) -> Command:
    _app(folder, "mlflow_save.py")
    port = machine.free_port()
    environ = {"PATH": f"{python.parent}:/usr/bin:/bin", "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    full = {**machine.clean_environ(**environ), **model_environ(case)}
    saved = subprocess.run([python, "mlflow_save.py", "model"], cwd=folder, env=full, capture_output=True, text=True)
    if saved.returncode:
        raise RuntimeError(f"the model cannot be saved: {saved.stderr[-500:]}")
    serve = ["models", "serve", "-m", "model", "-h", "127.0.0.1", "-p", str(port), "--env-manager", "local"]
    return Command([python.with_name("mlflow"), *serve, "--workers", "1"], environ, port)


def _litserve(python: Path, folder: Path, case: Case) -> Command:
    _app(folder, "litserve_app.py")
    port = machine.free_port()
    return Command([python, "litserve_app.py", str(port)], port=port)


def _ray(python: Path, folder: Path, case: Case) -> Command:
    _app(folder, "ray_app.py")
    port = machine.free_port()
    environ = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(folder)}
    return Command([python, "ray_app.py", str(port), str(folder / "ray")], environ, port)


def _azure(python: Path, folder: Path, case: Case) -> Command:
    _app(folder, "azure_score.py")
    port = machine.free_port()
    command: list[str | Path] = [
        python.with_name("azmlinfsrv"),
        "--entry_script",
        "azure_score.py",
        "--port",
        str(port),
    ]
    environ = {"PATH": f"{python.parent}:/usr/bin:/bin"}
    return Command([*command, "--health_port", str(port), "--worker_count", "1"], environ, port)


def model_environ(case: Case) -> dict[str, str]:
    """What apps/work.py reads."""
    return {
        "BENCH_WORK": case.work,
        "BENCH_DECODE": case.decode,
        "BENCH_MODEL": str(environments.model_file(case.work)),
    }


PEERS = {
    peer.name: peer
    for peer in (
        Peer("floor", "bare ASGI app (the floor)", (*_UVICORN, "orjson==3.13.0"), "uvicorn", "/",
             _uvicorn("floor_app"), note="uvicorn, uvloop, httptools, orjson; checks nothing"),
        Peer("fastapi", "FastAPI, hand-written", (*_UVICORN, "fastapi==0.165.0"), "fastapi", "/predict",
             _uvicorn("fastapi_app"), health="/health", note="a pydantic model of the body, a plain `def`"),
        Peer("mlserver", "MLServer, in process", _MLSERVER, "mlserver",
             "/v2/models/m/infer", _mlserver(0), _mlserver_body, "/v2/health/live",
             "`parallel_workers: 0`; scikit-learn runtime, else a custom runtime with NumpyCodec"),
        Peer("mlserver-worker", "MLServer, one parallel worker", _MLSERVER, "mlserver",
             "/v2/models/m/infer", _mlserver(1), _mlserver_body, "/v2/health/live",
             "its default is one worker process", "mlserver"),
        Peer("bentoml", "BentoML", ("bentoml==1.4.39",), "bentoml", "/predict", _bentoml, health="/livez",
             note="`workers=1`, array in, array out"),
        Peer("mlflow", "MLflow serving", ("mlflow==3.17.2",), "mlflow", "/invocations", _mlflow,
             lambda case: {"inputs": value_of(case)}, "/ping", "`--workers 1`, `inputs`, no signature"),
        Peer("litserve", "LitServe", ("litserve==0.2.19",), "litserve", "/predict", _litserve, health="/health",
             note="`workers_per_device=1`"),
        Peer("ray", "Ray Serve", ("ray[serve]==2.60.0",), "ray", "/", _ray, health="/-/healthz",
             note="one replica on a local Ray"),
        Peer("azure", "Azure inference server", ("azureml-inference-server-http==1.5.1",),
             "azureml-inference-server-http", "/score", _azure, health="/", note="`--worker_count 1`, its own logging"),
    )
}  # fmt: skip

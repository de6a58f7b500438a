"""What `argosy image usage` prints is run as it is printed, where there is no Argosy but what it printed."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from conftest import Require
from e2e.containers import Podman
from e2e.running import Argosy
from e2e.test_oci_image import base, image, iris

__all__ = ["base", "image", "iris"]

ANSWER = '"[\\"setosa\\", \\"versicolor\\"]"'
_NAME = {"pattern": "^[a-zA-Z0-9_-]+$"}
_MODULE = {
    "type": {"const": "docker"},
    "settings": {
        "type": "object",
        "required": ["image"],
        "properties": {"image": {"type": "string"}, "createOptions": {"type": "string", "maxLength": 512}},
        "additionalProperties": False,
    },
    "env": {
        "propertyNames": {"pattern": r"^[^+#$\s.]+$"},
        "additionalProperties": {"required": ["value"], "additionalProperties": False, "properties": {"value": {}}},
    },
    "imagePullPolicy": {"enum": ["never", "on-create"]},
}
_STARTED = {
    **_MODULE,
    "version": {"type": "string"},
    "status": {"enum": ["running", "stopped"]},
    "restartPolicy": {"enum": ["never", "on-failure", "on-unhealthy", "always"]},
    "startupOrder": {"type": "integer", "minimum": 0},
}


def _closed(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


# The rules of Microsoft's azure-iot-edge-deployment-2.0.json in the JSON Schema Store, in our own words.
_NEEDED = ["type", "status", "restartPolicy", "settings"]
_AGENT = _closed(
    {
        "schemaVersion": {"enum": ["1.0", "1.1"]},
        "runtime": _closed({"type": {"const": "docker"}, "settings": {"type": "object"}}, ["type", "settings"]),
        "systemModules": _closed(
            {"edgeAgent": _closed(_MODULE, ["type", "settings"]), "edgeHub": _closed(_STARTED, _NEEDED)},
            ["edgeAgent", "edgeHub"],
        ),
        "modules": {"type": "object", "propertyNames": _NAME, "additionalProperties": _closed(_STARTED, _NEEDED)},
    },
    ["schemaVersion", "runtime", "systemModules", "modules"],
)
_KEPT = _closed({"timeToLiveSecs": {"type": "integer"}}, ["timeToLiveSecs"])
_HUB = _closed(
    {"schemaVersion": {"enum": ["1.0", "1.1"]}, "routes": {"type": "object"}, "storeAndForwardConfiguration": _KEPT},
    ["schemaVersion", "routes"],
)
DEPLOYMENT = _closed(
    {
        "modulesContent": {
            "type": "object",
            "required": ["$edgeAgent", "$edgeHub"],
            "properties": {
                "$edgeAgent": _closed({"properties.desired": _AGENT}, ["properties.desired"]),
                "$edgeHub": _closed({"properties.desired": _HUB}, ["properties.desired"]),
            },
        }
    },
    ["modulesContent"],
)


class Elsewhere:
    """A folder to type commands in, with `podman` and `argosy` on the path."""

    def __init__(self, argosy: Argosy, podman: Podman) -> None:
        self.podman, self.folder = podman, podman.folder / "here"
        programs = self.folder / "bin"
        programs.mkdir(parents=True)
        self._program(programs / "podman", *podman.command())
        self._program(programs / "argosy", sys.executable, "-m", "argosy.cli")
        path = f"{programs}:{os.environ['PATH']}"
        self._environ = {**argosy.environ, "PATH": path, "CONTAINERS_CONF": podman.environ["CONTAINERS_CONF"]}

    def _program(self, path: Path, *words: str) -> None:
        path.write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
        path.chmod(0o755)

    def type(self, commands: list[str], port: int) -> str:
        """The commands one after the other in one shell; the last is typed when the container is ready."""
        ready = f"curl -fs http://127.0.0.1:{port}/readyz >/dev/null"
        wait = f'until {ready}; do i=$((i+1)); [ "$i" -lt 240 ]; sleep 0.5; done'
        script = "\n".join(["set -e", *commands[:-1], wait, commands[-1]])
        done = subprocess.run(
            ["sh", "-c", script], cwd=self.folder, env=self._environ, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}\n{self.podman('logs', 'iris').stderr}"
        return done.stdout


@pytest.fixture
def elsewhere(argosy: Argosy, require: Require) -> Iterator[Elsewhere]:
    podman = Podman(require("podman"), Path(tempfile.mkdtemp(prefix="podman-")))
    yield Elsewhere(argosy, podman)
    podman.clean()
    shutil.rmtree(podman.folder, ignore_errors=True)


def free() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_the_printed_podman_commands_answer_the_sample(
    argosy: Argosy, image: dict[str, Any], elsewhere: Elsewhere
) -> None:
    port = free()
    usage = argosy.json("image", "usage", "iris", "--platform", "linux/amd64", "--port", port)
    shown = argosy.ok("image", "usage", "iris", "--platform", "linux/amd64", "--port", port).out
    assert all(line in shown for lines in usage["commands"].values() for line in lines)
    assert elsewhere.type(usage["commands"]["podman"], port).splitlines()[-1] == ANSWER
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/score", b"{}"))
    elsewhere.podman("stop", "--time", "20", "iris")
    assert elsewhere.podman("inspect", "--format", "{{.State.ExitCode}}", "iris").stdout.strip() == "0"


def test_the_compose_file_runs(argosy: Argosy, image: dict[str, Any], elsewhere: Elsewhere, require: Require) -> None:
    require("podman-compose")
    port = free()
    usage = argosy.json("image", "usage", "iris", "--platform", "linux/amd64", "--port", port)
    assert yaml.safe_load(usage["files"]["compose"])["services"]["iris"]["read_only"] is True
    printed = usage["commands"]["compose"]
    commands = [line.replace("docker compose", "podman-compose").replace("docker ", "podman ") for line in printed]
    try:
        assert elsewhere.type(commands, port).splitlines()[-1] == ANSWER
    finally:
        elsewhere.podman("rm", "--all", "--force", "--time", "0", check=False)
        elsewhere.podman("network", "rm", "here_default", check=False)


def test_the_iot_edge_manifest_has_the_published_shape(argosy: Argosy, image: dict[str, Any]) -> None:
    options = ["--platform", "linux/arm64", "--format", "iot-edge"]
    loaded = json.loads(argosy.ok("image", "usage", "iris", *options).out)
    jsonschema.validate(loaded, DEPLOYMENT)
    module = loaded["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]["iris"]
    assert (module["settings"]["image"], module["imagePullPolicy"]) == ("iris:1", "never")
    assert module["env"] == {name: {"value": f"${{{name}}}"} for name in ("ARGOSY_KEYS", "AML_MODEL_DC_DEBUG")}
    created = json.loads(module["settings"]["createOptions"])
    assert created["HostConfig"]["PortBindings"] == {"5001/tcp": [{"HostPort": "5001"}]}
    pulled = argosy.ok("image", "usage", "iris", *options, "--reference", "registry.example.com/iris:1").out
    modules = json.loads(pulled)["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]
    assert modules["iris"]["imagePullPolicy"] == "on-create"


def test_the_kubernetes_objects_belong_together(argosy: Argosy, image: dict[str, Any]) -> None:
    said = argosy.ok("image", "usage", "iris", "--platform", "linux/arm64", "--format", "kubernetes").out
    deployment, service = yaml.safe_load_all(said)
    pod = deployment["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["nodeSelector"] == {"kubernetes.io/arch": "arm64"}
    container = pod["spec"]["containers"][0]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    secret = container["envFrom"][0]["secretRef"]["name"]
    commands = argosy.json("image", "usage", "iris", "--platform", "linux/arm64")["commands"]["kubernetes"]
    assert any(line.endswith(f"create secret generic {secret} --from-env-file=/dev/stdin") for line in commands)


def test_what_cannot_be_shown_is_told(argosy: Argosy, image: dict[str, Any]) -> None:
    assert "linux/amd64, linux/arm64" in argosy.fails("image", "usage", "iris")
    named = ["image", "usage", "iris", "--platform", "linux/amd64"]
    assert "--reference cannot be" in argosy.fails(*named, "--reference", "a b; rm -rf /")
    assert "no image" in argosy.fails("image", "usage", "nothing")

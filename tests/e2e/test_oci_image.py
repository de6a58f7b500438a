"""The iris example as a container image: built here without a container engine, run by a real one without Argosy."""

import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from argosy.images.oci.layout import OciLayout
from conftest import Require
from e2e.containers import Podman, base_image
from e2e.running import Argosy
from images.distribution.docker_registry import serve

ROOT = Path(__file__).parents[2]
PLATFORMS = {"linux/amd64": 62, "linux/arm64": 183}
ASK = """
import sys, urllib.request
headers = {"Authorization": "Bearer " + sys.argv[1], "Content-Type": "application/json"}
request = urllib.request.Request("http://127.0.0.1:5001/score", sys.stdin.buffer.read(), headers)
print(urllib.request.urlopen(request).read().decode())
"""


@pytest.fixture(scope="module")
def base(require: Require) -> tuple[str, str]:
    """(reference, Python) of the base image."""
    debootstrap = require("debootstrap")
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a base image with debootstrap: run the tests as root")
    return base_image(debootstrap)


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("iris") / "iris"
    shutil.copytree(ROOT / "examples" / "iris", folder)
    subprocess.run([sys.executable, "train.py", str(folder)], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def image(argosy: Argosy, base: tuple[str, str], iris: Path) -> dict[str, Any]:
    """The image for both platforms, as `image show` has it."""
    reference, python = base
    recipe = ["-m", "model.pkl", "-f", "score.py", "-c", "conda.yml", "-s", "schema.json", "--sample", "sample.json"]
    made = argosy(
        "image", "create", "-n", "iris", *(str(iris / word) if "." in word else word for word in recipe),
        "-r", f"python:{python}", "--builder", "oci", "--base", reference, "--platform", ",".join(PLATFORMS),
    )  # fmt: skip
    assert made.code == 0, made.err
    found: dict[str, Any] = argosy("image", "show", "iris", "-o", "json").json
    return found


@pytest.fixture(scope="module")
def podman(argosy: Argosy, image: dict[str, Any], require: Require) -> Iterator[Podman]:
    """An engine that has loaded the saved image as iris:1."""
    made = Podman(require("podman"), Path(tempfile.mkdtemp(prefix="podman-")))  # short: it refuses long folders
    file = made.folder / "iris.tar"
    saved = argosy("image", "save", image["name"], "-f", str(file), "--platform", "linux/amd64")
    assert saved.code == 0, saved.err
    made("load", "--input", str(file))
    file.unlink()
    yield made
    made.clean()
    shutil.rmtree(made.folder, ignore_errors=True)


def test_show_tells_layers_with_sizes_and_digests(argosy: Argosy, image: dict[str, Any]) -> None:
    assert set(image["oci"]) == set(PLATFORMS)
    shown = argosy("image", "show", "iris").out
    for content in image["contents"]:
        assert content["digest"] in shown
        assert all(layer["digest"] in shown and layer["size_bytes"] > 0 for layer in content["layers"])


def test_skopeo_reads_it_for_each_platform(argosy: Argosy, image: dict[str, Any], require: Require) -> None:
    for platform in PLATFORMS:
        architecture = platform.partition("/")[2]
        where = f"oci:{argosy.home / 'oci'}:iris:1"
        command = [require("skopeo"), "--override-arch", architecture, "inspect", where]
        seen = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert (seen["Architecture"], seen["Os"]) == (architecture, "linux")
        assert seen["Labels"]["io.argosy.manifest.digest"] == image["manifest_digest"]


def test_every_native_file_is_for_its_platform_the_base_included(argosy: Argosy, image: dict[str, Any]) -> None:
    layout = OciLayout(argosy.home / "oci")
    for content in image["contents"]:
        machines: dict[int, int] = {}
        for layer in content["layers"]:
            with tarfile.open(layout.path(layer["digest"])) as tar:
                for entry in tar:
                    head = tar.extractfile(entry).read(20) if entry.isfile() else b""  # type: ignore[union-attr]
                    if head.startswith(b"\x7fELF"):
                        machine = struct.unpack_from("<H", head, 18)[0]
                        machines[machine] = machines.get(machine, 0) + 1
        assert set(machines) == {PLATFORMS[content["platform"]]}
        assert sum(machines.values()) > 300, "Debian's and the packages'"


def test_it_answers_its_sample_read_only_without_root_and_without_a_network(iris: Path, podman: Podman) -> None:
    locked = ["--read-only", "--user", "65532", "--network", "none", "--cap-drop", "ALL"]
    podman("run", "--detach", "--name", "iris", *locked, "--env", "ARGOSY_KEYS=first-key", "iris:1")
    deadline = time.monotonic() + 120
    while "Ready after" not in (log := podman("logs", "iris").stdout):
        assert time.monotonic() < deadline and "Not ready" not in log, log
        time.sleep(0.2)
    sample = (iris / "sample.json").read_text()
    said = podman("exec", "-i", "iris", "python", "-c", ASK, "first-key", stdin=sample)
    assert json.loads(json.loads(said.stdout)) == ["setosa", "versicolor"]
    assert podman("exec", "-i", "iris", "python", "-c", ASK, "wrong", check=False, stdin=sample).returncode == 1
    assert podman("exec", "iris", "touch", "/opt/argosy/x", check=False).returncode == 1
    podman("stop", "--time", "20", "iris")
    assert podman("inspect", "--format", "{{.State.ExitCode}}", "iris").stdout.strip() == "0", "drained, not killed"


def test_without_keys_or_a_writable_folder_it_says_what_is_missing(podman: Podman) -> None:
    locked = ["run", "--rm", "--network", "none", "--read-only"]
    silent = podman(*locked, "iris:1", check=False)
    assert silent.returncode == 3 and "Set ARGOSY_KEYS" in silent.stderr
    narrow = podman(*locked, "--read-only-tmpfs=false", "--env", "ARGOSY_AUTH=off", "iris:1", check=False)
    assert narrow.returncode == 3 and "--tmpfs /tmp" in narrow.stderr


def test_a_base_from_a_registry(
    argosy: Argosy, image: dict[str, Any], base: tuple[str, str], require: Require, tmp_path: Path
) -> None:
    """The same base from elsewhere gives the same image."""
    with serve(require("docker-registry"), tmp_path / "registry") as host:
        copy = [require("skopeo"), "copy", "--all", "--preserve-digests", "--dest-tls-verify=false"]
        subprocess.run([*copy, base[0], f"docker://{host}/bases/debian:12"], check=True, capture_output=True)
        create = ["image", "create", "-n", "iris", "--manifest", "iris:1", "--builder", "oci"]
        platforms = ["--platform", ",".join(PLATFORMS)]
        argosy.ok(*create, *platforms, "--base", f"{host}/bases/debian:12")
        assert argosy("image", "show", "iris", "-o", "json").json["oci"] == image["oci"]
        assert "bases/alpine" in argosy.fails(*create, *platforms, "--base", f"{host}/bases/alpine:3")
    argosy.fails(*create, "--base", f"{host}/bases/debian:12", code=2)


def test_mistakes_of_the_command_line_are_told(argosy: Argosy, image: dict[str, Any], base: tuple[str, str]) -> None:
    reference, _ = base
    create = ["image", "create", "-n", "iris", "--manifest", "iris:1"]
    oci = [*create, "--builder", "oci"]
    for words, problem in (
        ([*create, "--base", "oci:nowhere"], "is no OCI layout"),
        ([*oci, "--base", "oci:nowhere"], "is no OCI layout"),
        ([*oci, "--base", reference, "--platform", "linux/mips"], "linux/mips"),
        (["image", "save", "iris", "-f", "/tmp/never.tar"], "linux/amd64, linux/arm64"),
    ):
        done = argosy(*words)
        assert done.code == 1 and problem in done.err, done.err
    assert not Path("/tmp/never.tar").exists()

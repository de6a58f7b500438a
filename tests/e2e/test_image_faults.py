"""Builds, pushes, pulls and collections that `kill -9` ends, a full disk, corrupt blobs: whole again after."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import argosy as sdk
from argosy.images.oci.layout import REF_NAME, SUBJECT
from conftest import Require
from e2e.containers import base_image
from e2e.engines import running
from e2e.running import Argosy, RecipeFolder
from images.distribution.docker_registry import serve

MODEL_BYTES = 60_000_000
# Moments after an operation was accepted; the whole of it takes one to a few seconds.
MOMENTS_S = (0.0, 0.1, 0.3, 0.6)
SCRIPT = """
def run(numbers):
    return numbers
"""


@pytest.fixture(scope="module")
def base(require: Require) -> tuple[str, str]:
    debootstrap = require("debootstrap")
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a base image with debootstrap: run the tests as root")
    return base_image(debootstrap)


@pytest.fixture
def alone() -> Iterator[Argosy]:
    """A home with environments of its own: they are collected."""
    made = Argosy(Path(tempfile.mkdtemp(prefix="argosy-e2e-")))
    yield made
    made("down")
    for process in made.processes():
        process.kill()
    shutil.rmtree(made.home, ignore_errors=True)


@pytest.fixture
def registry(require: Require, tmp_path: Path) -> Iterator[str]:
    with serve(require("docker-registry"), tmp_path / "registry") as host:
        yield host


class Maker:
    """Builds images whose model is new each time."""

    def __init__(self, argosy: Argosy, recipe: RecipeFolder, base: tuple[str, str], folder: Path) -> None:
        self.argosy, self.base, self.model = argosy, base, folder / "model.bin"
        self.manifest_words = ["-m", self.model, *recipe.options(script=SCRIPT), "-r", f"python:{base[1]}"]

    def manifest(self, name: str = "big") -> str:
        self.model.write_bytes(os.urandom(MODEL_BYTES))
        return str(self.argosy.json("manifest", "create", "-n", name, *self.manifest_words)["name"])

    def words(self, name: str = "big") -> list[str]:
        manifest = f"{name}:{self.argosy.json('manifest', 'show', name)['version']}"
        return ["image", "create", "-n", name, "--manifest", manifest, "--builder", "oci", "--base", self.base[0]]

    def build(self, name: str = "big") -> dict[str, Any]:
        self.manifest(name)
        self.argosy.ok(*self.words(name))
        found: dict[str, Any] = self.argosy.json("image", "show", name)
        return found


@pytest.fixture
def maker(alone: Argosy, recipe: RecipeFolder, base: tuple[str, str], tmp_path: Path) -> Maker:
    alone.up()
    return Maker(alone, recipe, base, tmp_path)


def killed_during(argosy: Argosy, after_s: float, *words: str) -> Any:
    """Begin the operation, kill the control plane, start it again; the operation as it ended."""
    operation = argosy.json(*words, "--no-wait")
    time.sleep(after_s)
    plane = psutil.Process(argosy.address["pid"])
    plane.send_signal(signal.SIGKILL)
    plane.wait(30)
    argosy.up()
    with sdk.connect(home=argosy.home) as client:
        return client.operations.wait(operation["id"], timeout_s=120)


def resumed(argosy: Argosy) -> int:
    """How often a control plane of this home found something unfinished at its start."""
    return (argosy.home / "logs" / "control-plane.log").read_text().count("unfinished operations go on")


def check_layout(argosy: Argosy, require: Require, folder: Path) -> set[str]:
    """Other tools read every tagged image, each byte of which is what its digest says; the tags."""
    layout = argosy.home / "oci"
    entries = json.loads((layout / "index.json").read_text())["manifests"]
    named = [entry["annotations"] for entry in entries if SUBJECT not in entry["annotations"]]
    tags = {annotations[REF_NAME] for annotations in named}
    listed = subprocess.run(
        [require("umoci"), "ls", "--layout", str(layout)], check=True, capture_output=True, text=True
    )
    assert tags == set(listed.stdout.split())
    for number, tag in enumerate(sorted(tags)):
        subprocess.run([require("skopeo"), "inspect", f"oci:{layout}:{tag}"], check=True, capture_output=True)
        # Of a default base only the platforms are here that something was built for.
        every = [] if tag.startswith("base/") else ["--all", "--preserve-digests"]
        copy = [require("skopeo"), "copy", *every, f"oci:{layout}:{tag}"]
        target = folder / f"copy-{time.monotonic_ns()}-{number}"
        subprocess.run([*copy, f"dir:{target}"], check=True, capture_output=True)
        shutil.rmtree(target)
    return tags


def test_a_build_that_is_killed_is_finished_by_the_next_control_plane(
    maker: Maker, require: Require, tmp_path: Path
) -> None:
    first = maker.build()
    for number, moment_s in enumerate(MOMENTS_S, start=2):
        maker.manifest()
        done = killed_during(maker.argosy, moment_s, *maker.words())
        assert (done.state, done.result["image"]) == ("succeeded", f"big:{number}"), done
    assert resumed(maker.argosy) > 0, "at least one was killed before its end"
    assert check_layout(maker.argosy, require, tmp_path) == {f"big:{n}" for n in range(1, len(MOMENTS_S) + 2)}
    assert maker.argosy.json("image", "show", "big:1")["oci"] == first["oci"]
    assert not list((maker.argosy.home / "oci" / ".incoming").iterdir()), "nothing half written is left"


def test_pushes_and_pulls_that_are_killed_are_finished(
    maker: Maker, registry: str, require: Require, tmp_path: Path
) -> None:
    argosy = maker.argosy
    for moment_s in MOMENTS_S[:3]:
        image = maker.build()
        reference, target = f"big:{image['version']}", f"{registry}/team/big:{image['version']}"
        pushed = killed_during(argosy, moment_s, "image", "push", reference, target)
        assert pushed.state == "succeeded", pushed
        inspect = [require("skopeo"), "inspect", "--tls-verify=false", f"docker://{target}"]
        assert json.loads(subprocess.run(inspect, check=True, capture_output=True).stdout)["Architecture"]
        argosy.ok("image", "delete", reference, "--yes")
        argosy.ok("gc")
        pulled = killed_during(argosy, moment_s, "image", "pull", target)
        assert pulled.state == "succeeded", pulled
        found = argosy.json("image", "show", str(pulled.result["image"]))
        assert found["oci"] == image["oci"]
        assert argosy.json("image", "show", str(pulled.result["image"]), "--sbom")["specVersion"] == "1.6"
    assert resumed(argosy) > 0, "at least one was killed before its end"
    check_layout(argosy, require, tmp_path)


def test_a_collection_that_is_killed_is_finished(maker: Maker, require: Require, tmp_path: Path) -> None:
    argosy = maker.argosy
    kept = maker.build("kept")
    for left in (8, 4):
        image = maker.build()
        argosy.ok("image", "delete", f"big:{image['version']}", "--yes")
        folders = [unfinished_environment(argosy, number) for number in range(8)]
        begun = resumed(argosy)
        with sdk.connect(home=argosy.home) as client:
            operation = client.gc(wait=False)
            deadline = time.monotonic() + 60
            while sum(folder.exists() for folder in folders) > left:
                assert time.monotonic() < deadline
        plane = psutil.Process(argosy.address["pid"])
        plane.send_signal(signal.SIGKILL)
        plane.wait(30)
        argosy.up()
        with sdk.connect(home=argosy.home) as client:
            assert client.operations.wait(operation.id, timeout_s=60).state == "succeeded"
        assert resumed(argosy) > begun, "it was killed before its end"
        assert argosy.json("gc", "--dry-run")["freed"] == []
        assert not list((argosy.home / "envs").glob(".removed-*")), "nor is anything half removed"
        assert check_layout(argosy, require, tmp_path) == {"kept:1"}
    assert argosy.json("image", "show", "kept")["contents"] == kept["contents"]


def unfinished_environment(argosy: Argosy, number: int) -> Path:
    """Many files, so that a collection takes a while."""
    folder = argosy.home / "envs" / f"{number:064x}"
    folder.mkdir()
    for file in range(3000):
        (folder / str(file)).touch()
    return folder


def collected_beside(argosy: Argosy, *words: str) -> tuple[Any, int]:
    """The result of an operation, and how many collections were run until it was done."""
    operation, count = argosy.json(*words, "--no-wait"), 0
    with sdk.connect(home=argosy.home) as client:
        while not (found := client.operations.show(operation["id"])).done:
            assert client.gc().state == "succeeded"
            count += 1
    assert found.state == "succeeded", found
    return found.result, count


def test_collections_beside_builds_and_a_service(
    maker: Maker, recipe: RecipeFolder, require: Require, tmp_path: Path
) -> None:
    """The service answers, its image and its environment stay, and so does what is built meanwhile."""
    argosy = maker.argosy
    argosy.ok("service", "create", "twice", "-m", recipe.model(2), *recipe.options())
    for number in range(1, 4):
        maker.manifest()
        result, collections = collected_beside(argosy, *maker.words())
        assert result["image"] == f"big:{number}" and collections > 0
        assert argosy.json("service", "run", "twice", "-d", '{"numbers": [1, 2]}') == [2, 4]
    check_layout(argosy, require, tmp_path)
    argosy.ok("image", "delete", "big:1", "--yes")
    planned = argosy.ok("gc", "--dry-run").out
    assert "oci blob" in planned and "would be freed" in planned
    freed = argosy.json("gc")
    assert freed["size_bytes"] > MODEL_BYTES and not freed["dry_run"]
    assert argosy.json("service", "run", "twice", "-d", '{"numbers": [3]}') == [6]
    assert "Nothing to free" in argosy.ok("gc").out


def test_collections_beside_bases_steps_and_containers(
    alone: Argosy, recipe: RecipeFolder, base: tuple[str, str], registry: str, require: Require, tmp_path: Path
) -> None:
    """The default base is used by a build that begins, by steps, and by the next update of a service."""
    steps = tmp_path / "steps.txt"
    steps.write_text("ENV MOOD=calm\nRUN echo ahoy > /hello\nRUN sleep 1\n")
    name = f"{registry}/python:{base[1]}-slim-bookworm"
    copy = [require("skopeo"), "copy", "--all", "--preserve-digests", "--dest-tls-verify=false"]
    subprocess.run([*copy, base[0], f"docker://{name}"], check=True, capture_output=True)
    with running("podman", require("podman")) as engine:
        alone.variables |= {"DOCKER_HOST": engine.url, "ARGOSY_BASE_IMAGE": name}
        alone.up()
        maker = Maker(alone, recipe, base, tmp_path)
        alone.ok("env", "create", "box", "--kind", "container", "--engine", engine.url)
        how = ["-r", f"python:{base[1]}", "--env", "box"]
        alone.ok("service", "create", "boxed", "-m", recipe.model(2), *recipe.options(), *how)
        maker.manifest()
        words = ["image", "create", "-n", "big", "--manifest", "big:1", "--builder"]
        _, collections = collected_beside(alone, *words, "oci")
        assert collections > 0
        result, collections = collected_beside(alone, *words, "docker", "--docker-steps", str(steps))
        assert collections > 0
        tags = check_layout(alone, require, tmp_path)
        assert f"base/{name}" in tags and str(result["image"]) in tags
        alone.ok("gc")
        alone.ok("service", "update", "boxed", "-m", recipe.model(3))
        assert alone.json("service", "run", "boxed", "-d", '{"numbers": [2]}') == [6]
        alone.ok("service", "delete", "boxed", "--yes")
        alone.ok("env", "delete", "box", "--yes")


def test_corrupt_blobs_are_told_and_built_anew(maker: Maker, registry: str, require: Require, tmp_path: Path) -> None:
    argosy = maker.argosy
    image = maker.build()
    (content,) = image["contents"]
    for words in (["image", "save", "big", "-f", "x.tar"], ["image", "push", "big", f"{registry}/big"]):
        layer = argosy.home / "oci" / "blobs" / content["layers"][-1]["digest"].replace(":", "/")
        layer.chmod(0o600)
        with layer.open("r+b") as stream:
            stream.seek(MODEL_BYTES // 2)
            stream.write(b"other bytes")
        said = argosy.fails(*words, code=2, cwd=tmp_path)
        assert content["layers"][-1]["digest"] in said and "Build or pull the image again" in said
        argosy.ok(*maker.words())
        check_layout(argosy, require, tmp_path)
    manifest = argosy.home / "oci" / "blobs" / content["digest"].replace(":", "/")
    manifest.chmod(0o600)
    manifest.write_bytes(manifest.read_bytes().replace(b"schemaVersion", b"schemaversion"))
    assert "was corrupt" in argosy.fails("image", "show", "big", code=2)
    argosy.ok(*maker.words())
    assert argosy.json("image", "show", "big")["oci"] == image["oci"]
    assert not (tmp_path / "x.tar").exists()


def test_a_full_disk_is_told_and_nothing_is_half_there(
    alone: Argosy, recipe: RecipeFolder, base: tuple[str, str], registry: str, require: Require, tmp_path: Path
) -> None:
    alone.up()
    maker = Maker(alone, recipe, base, tmp_path)
    image = maker.build()
    alone.ok("image", "push", "big", f"{registry}/big:1")
    alone.ok("image", "delete", "big:1", "--yes")
    alone.ok("down")
    store = alone.home / "oci"
    shutil.rmtree(store)
    with small_disk(store, 150):
        alone.up()
        for words in (maker.words(), ["image", "pull", f"{registry}/big:1"]):
            said = alone.fails(*words, code=2)
            assert "No space left on device" in said and "Free some space" in said, said
            assert alone.json("image", "list") == []
            assert json.loads((store / "index.json").read_text())["manifests"] == []
        alone.ok("gc")
        subprocess.run(["mount", "-o", "remount,size=1g", str(store)], check=True)
        alone.ok("image", "pull", f"{registry}/big:1")
        assert alone.json("image", "show", "big")["oci"] == image["oci"]
        check_layout(alone, require, tmp_path)
        alone.ok("down")


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"mode=700,size={megabytes}m", "tmpfs", str(folder)]
    subprocess.run(words, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)

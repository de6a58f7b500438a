"""Images between homes: a default base from a registry, push, pull, save and load, against a real registry.

Two of them: one as the place of public bases, without a login; one with TLS and passwords, for what is pushed.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from conftest import Require
from e2e.containers import base_image
from e2e.running import Argosy, RecipeFolder
from images.distribution.docker_registry import PASSWORD, USER, make_certificate, serve

BOTH = "linux/amd64,linux/arm64"


@dataclass
class Place:
    """A registry with TLS and passwords, and what skopeo needs to get in."""

    host: str
    ca_file: Path
    certificates: Path

    def skopeo(self, program: str, verb: str, *words: str, side: str = "") -> str:
        options = [f"--{side}creds={USER}:{PASSWORD}", f"--{side}cert-dir={self.certificates}"]
        done = subprocess.run([program, verb, *options, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def base(require: Require) -> tuple[str, str]:
    """(reference, Python) of the base image."""
    debootstrap = require("debootstrap")
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a base image with debootstrap: run the tests as root")
    return base_image(debootstrap)


@pytest.fixture(scope="module")
def bases(require: Require, base: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry that has the base under its usual name."""
    with serve(require("docker-registry"), tmp_path_factory.mktemp("bases") / "registry") as host:
        copy = [require("skopeo"), "copy", "--all", "--preserve-digests", "--dest-tls-verify=false"]
        target = f"docker://{host}/python:{base[1]}-slim-bookworm"
        subprocess.run([*copy, base[0], target], check=True, capture_output=True)
        yield host


@pytest.fixture(scope="module")
def place(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    certificate, key = make_certificate(require("openssl"), folder)
    (folder / "certificates").mkdir()
    shutil.copy(certificate, folder / "certificates" / "ca.crt")
    with serve(require("docker-registry"), folder / "registry", (certificate, key)) as host:
        yield Place(host, certificate, folder / "certificates")


def home_of(**variables: str) -> Argosy:
    made = Argosy(Path(tempfile.mkdtemp(prefix="argosy-e2e-")), variables)
    made.up()
    return made


def end(argosy: Argosy) -> None:
    argosy("down")
    for process in argosy.processes():
        process.kill()
    shutil.rmtree(argosy.home, ignore_errors=True)


def log_in(argosy: Argosy, place: Place) -> None:
    words = ["image", "login", place.host, "-u", USER, "--password-stdin"]
    subprocess.run(
        [sys.executable, "-m", "argosy.cli", *words], env=argosy.environ, input=PASSWORD, text=True,
        check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def builder(bases: str, place: Place) -> Iterator[Argosy]:
    """A home that builds, and has logged in."""
    made = home_of(
        ARGOSY_BASE_IMAGE=bases + "/python:{python}-slim-bookworm", ARGOSY_REGISTRY_CA_FILE=str(place.ca_file)
    )
    try:
        log_in(made, place)
        yield made
    finally:
        end(made)


@pytest.fixture(scope="module")
def runner(place: Place) -> Iterator[Argosy]:
    """Another home, which has only images that were built elsewhere."""
    made = home_of(ARGOSY_REGISTRY_CA_FILE=str(place.ca_file), ARGOSY_REGISTRY=f"{place.host}/copies")
    try:
        log_in(made, place)
        yield made
    finally:
        end(made)


@pytest.fixture(scope="module")
def image(builder: Argosy, recipe: RecipeFolder, base: tuple[str, str]) -> dict[str, Any]:
    """The image of both platforms, built on the default base."""
    recipe_words = ["-m", recipe.model(2), *recipe.options(), "-r", f"python:{base[1]}"]
    builder.ok("image", "create", "-n", "twice", *recipe_words, "--builder", "oci", "--platform", BOTH)
    found: dict[str, Any] = builder.json("image", "show", "twice")
    return found


@pytest.fixture(scope="module")
def pushed(builder: Argosy, image: dict[str, Any], place: Place) -> dict[str, Any]:
    found: dict[str, Any] = builder.json("image", "push", "twice", f"{place.host}/team/twice", "--tag", "latest")
    return found


def test_the_default_base_is_resolved_once(
    builder: Argosy, image: dict[str, Any], base: tuple[str, str], bases: str, recipe: RecipeFolder, require: Require
) -> None:
    named = builder.ok("image", "create", "-n", "same", "--manifest", "twice:1", "--builder", "oci", "--base", base[0],
                       "--platform", BOTH)  # fmt: skip
    assert named.code == 0
    assert builder.json("image", "show", "same")["oci"] == image["oci"], "the same base from elsewhere, the same image"
    # Somebody puts another image under the tag: what is built here stays on the base that was found first.
    name = f"python:{base[1]}-slim-bookworm"
    copy = [require("skopeo"), "--override-arch", "arm64", "copy", "--dest-tls-verify=false"]
    subprocess.run([*copy, base[0], f"docker://{bases}/{name}"], check=True, capture_output=True)
    builder.ok("image", "create", "-n", "later", "--manifest", "twice:1", "--builder", "oci", "--platform", BOTH)
    assert builder.json("image", "show", "later")["oci"] == image["oci"]
    again = ["--builder", "oci", "--platform", BOTH, "--base", f"{bases}/{name}"]
    assert "linux/arm64" in builder.fails("image", "create", "-n", "anew", "--manifest", "twice:1", *again)
    copy = [require("skopeo"), "copy", "--all", "--preserve-digests", "--dest-tls-verify=false"]
    subprocess.run([*copy, base[0], f"docker://{bases}/{name}"], check=True, capture_output=True)


def test_a_default_base_out_of_reach_is_told_with_the_ways_out(recipe: RecipeFolder, base: tuple[str, str]) -> None:
    alone = home_of(ARGOSY_BASE_IMAGE="127.0.0.1:9/python:{python}-slim-bookworm")
    try:
        words = ["-m", recipe.model(2), *recipe.options(), "-r", f"python:{base[1]}", "--builder", "oci"]
        said = alone.fails("image", "create", "-n", "twice", *words, code=2)
        assert all(way in said for way in ("--base", "oci:DIR", "base_image", f"python:{base[1]}-slim-bookworm")), said
        assert alone.json("image", "list") == []
    finally:
        end(alone)


def test_what_was_pushed_is_read_by_others(
    builder: Argosy, image: dict[str, Any], pushed: dict[str, Any], place: Place, require: Require, tmp_path: Path
) -> None:
    skopeo = require("skopeo")
    assert pushed["pushed"] == [f"{place.host}/team/twice:latest"]
    seen = json.loads(place.skopeo(skopeo, "inspect", f"docker://{place.host}/team/twice:latest"))
    assert seen["Labels"]["io.argosy.models"] == "twice:1"
    raw = place.skopeo(skopeo, "inspect", "--raw", f"docker://{place.host}/team/twice:latest")
    assert {m["platform"]["architecture"]: m["digest"] for m in json.loads(raw)["manifests"]} == {
        platform.partition("/")[2]: digest for platform, digest in image["oci"].items()
    }
    copied = f"oci:{tmp_path / 'copied'}:twice"
    place.skopeo(
        skopeo, "copy", "--all", "--preserve-digests", f"docker://{place.host}/team/twice:latest", copied, side="src-"
    )
    names = {path.name for path in (tmp_path / "copied" / "blobs" / "sha256").iterdir()}
    assert {digest.removeprefix("sha256:") for digest in image["oci"].values()} <= names
    again = builder.json("image", "push", "twice", f"{place.host}/team/twice:2.0", "--tag", "stable")
    assert again["pushed"] == [f"{place.host}/team/twice:2.0", f"{place.host}/team/twice:stable"]
    assert again["digest"] == pushed["digest"]


def test_documents_are_attached_and_the_same_each_time(
    builder: Argosy, image: dict[str, Any], pushed: dict[str, Any]
) -> None:
    assert len(pushed["attached"]) == 4, "two for each platform"
    bill = builder.ok("image", "show", "twice", "--sbom", "--platform", "linux/amd64").out
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    found = {part["name"]: part for part in json.loads(bill)["components"]}
    assert found["joblib"]["version"] == image["packages"]["joblib"] and found["joblib"]["hashes"]
    assert found["twice"]["type"] == "machine-learning-model" and found["base"]["type"] == "container"
    assert "timestamp" not in bill
    told = builder.json("image", "show", "twice", "--provenance", "--platform", "linux/arm64")
    assert told["predicateType"] == "https://slsa.dev/provenance/v1"
    assert told["subject"][0]["digest"]["sha256"] == image["oci"]["linux/arm64"].removeprefix("sha256:")
    assert "linux/amd64, linux/arm64" in builder.fails("image", "show", "twice", "--sbom")


def test_a_pulled_image_is_one_of_this_home(
    runner: Argosy, builder: Argosy, image: dict[str, Any], pushed: dict[str, Any], place: Place, tmp_path: Path
) -> None:
    runner.ok("image", "pull", f"{place.host}/team/twice:latest")
    found = runner.json("image", "show", "twice")
    for name in ("oci", "digest", "manifest_digest", "contents", "packages"):
        assert found[name] == image[name], name
    assert (found["manifest"], found["source"]) == ("", f"{place.host}/team/twice:latest")
    assert [f"{pin['name']}:{pin['version']}" for pin in found["models"]] == ["twice:1"]
    assert [each["name"] for each in runner.json("image", "list")] == ["twice"]
    document = ["image", "show", "twice", "--sbom", "--platform", "linux/amd64"]
    assert runner.ok(*document).out == builder.ok(*document).out
    runner.ok("image", "pull", f"{place.host}/team/twice@{pushed['digest']}", "-n", "twice")
    assert runner.json("image", "show", "twice")["version"] == 1, "the same image, no new version"
    saved = [["image", "save", "twice", "-f", tmp_path / name, "--platform", "linux/amd64"] for name in ("a", "b")]
    runner.ok(*saved[0])
    builder.ok(*saved[1])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    again = runner.json("image", "push", "twice")
    assert (again["pushed"], again["digest"]) == ([f"{place.host}/copies/twice:1"], pushed["digest"])


def test_processes_cannot_run_what_was_built_elsewhere_and_say_so(
    runner: Argosy, pushed: dict[str, Any], place: Place
) -> None:
    runner.ok("image", "pull", f"{place.host}/team/twice:latest", "-n", "once", "--platform", "linux/amd64")
    assert list(runner.json("image", "show", "once")["oci"]) == ["linux/amd64"]
    said = runner.fails("service", "create", "once", "--image", "once:1")
    assert "kind container" in said and "manifest" in said
    assert runner.json("service", "list") == []
    runner.ok("image", "delete", "once:1", "--yes")


def test_archives_are_loaded(
    runner: Argosy, builder: Argosy, image: dict[str, Any], require: Require, tmp_path: Path
) -> None:
    own, docker = tmp_path / "own.tar", tmp_path / "docker.tar"
    builder.ok("image", "save", "twice", "-f", own, "--platform", "linux/amd64")
    runner.ok("image", "load", "-f", own, "-n", "loaded")
    found = runner.json("image", "show", "loaded")
    assert found["oci"] == {"linux/amd64": image["oci"]["linux/amd64"]} and found["source"] == "own.tar"
    copy = [require("skopeo"), "copy", f"oci:{builder.home / 'oci'}:twice:1", f"docker-archive:{docker}:team/copied:7"]
    subprocess.run(copy, check=True, capture_output=True)
    runner.ok("image", "load", "-f", docker)
    copied = runner.json("image", "show", "copied")
    assert (copied["digest"], copied["manifest_digest"]) == (image["digest"], image["manifest_digest"])
    titles = [layer["title"] for layer in copied["contents"][0]["layers"]]
    assert titles[1:] == [layer["title"] for layer in image["contents"][0]["layers"]][1:]
    (tmp_path / "broken.tar").write_bytes(own.read_bytes()[:-5_000_000])
    assert "archive" in runner.fails("image", "load", "-f", tmp_path / "broken.tar", "-n", "broken")
    assert "broken" not in {each["name"] for each in runner.json("image", "list")}


def test_a_base_is_no_image_of_argosy(runner: Argosy, base: tuple[str, str], bases: str, place: Place) -> None:
    said = runner.fails("image", "pull", f"{bases}/python:{base[1]}-slim-bookworm", "-n", "base")
    assert "was not built by Argosy" in said and "--base" in said
    assert "no team/nothing:1" in runner.fails("image", "pull", f"{place.host}/team/nothing:1")
    assert "for the platform" in runner.fails(
        "image", "pull", f"{place.host}/team/twice:latest", "--platform", "linux/s390x"
    )

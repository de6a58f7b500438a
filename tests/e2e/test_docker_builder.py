"""The Docker builder through the command line: system packages, failures, a killed control plane, and by hand."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import psutil
import pytest

from argosy.images.oci.layout import OciLayout
from conftest import Require
from e2e.containers import Podman
from e2e.engines import running
from e2e.running import Argosy
from e2e.test_oci_image import ASK, base, iris

__all__ = ["base", "iris"]

STEPS = """\
# What the model needs of the system.
ENV SEA=calm
COPY words.txt /srv/
RUN echo installing && cp /srv/words.txt /srv/installed && echo installed
"""


@pytest.fixture(scope="module")
def engine(require: Require) -> Iterator[tuple[str, Podman]]:
    program = require("podman")
    with running("podman", program) as server:
        yield server.url, Podman(program, server.folder)


@pytest.fixture(scope="module")
def argosy(module_home: Path, engine: tuple[str, Podman]) -> Argosy:
    started = Argosy(module_home, {"DOCKER_HOST": engine[0]})
    started.up()
    return started


@pytest.fixture(scope="module")
def create(argosy: Argosy, base: tuple[str, str], iris: Path) -> list[str]:
    """The words that make the image, but for the steps."""
    (iris / "words.txt").write_text("ahoy\n")
    recipe = ["-m", "model.pkl", "-f", "score.py", "-c", "conda.yml", "-s", "schema.json", "--sample", "sample.json"]
    words = [str(iris / word) if "." in word else word for word in [*recipe, "-D", "words.txt"]]
    argosy.ok("manifest", "create", "-n", "iris", *words, "-r", f"python:{base[1]}")
    return ["image", "create", "-n", "iris", "--manifest", "iris:1", "--builder", "docker", "--base", base[0]]


@pytest.fixture(scope="module")
def steps(iris: Path) -> Path:
    path = iris / "steps.txt"
    path.write_text(STEPS)
    return path


@pytest.fixture(scope="module")
def image(argosy: Argosy, create: list[str], steps: Path) -> str:
    done = argosy.ok(*create, "--docker-steps", steps)
    assert "Step 3/3, line 4: RUN echo installing" in done.err and "iris: installed" in done.err
    return "iris:1"


def test_the_image_answers_its_sample_with_what_the_steps_made(
    argosy: Argosy, image: str, engine: tuple[str, Podman], iris: Path
) -> None:
    podman = engine[1]
    file = podman.folder / "iris.tar"
    argosy.ok("image", "save", image, "-f", file)
    podman("load", "--input", str(file))
    _answers(podman, "iris:1", (iris / "sample.json").read_text())


def test_the_log_is_kept(argosy: Argosy, image: str) -> None:
    assert "  installed" in argosy.ok("image", "logs", image).out.splitlines()


def test_bad_steps_are_refused_before_anything_starts(
    argosy: Argosy, create: list[str], image: str, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_text("RUN true\nUSER me\nCOPY --from=x /a /b\n")
    before = argosy.json("image", "list")
    said = argosy.fails(*create, "--docker-steps", bad)
    assert f"{bad}: line 2: USER" in said and "line 3: COPY --from" in said
    bad.write_text("RUN true\nCOPY nowhere.txt /srv/\n")
    assert "line 2: the manifest has no file 'nowhere.txt'" in argosy.fails(*create, "--docker-steps", bad)
    assert "--docker-steps" in argosy.fails(*create)
    oci = [word if word != "docker" else "oci" for word in create]
    assert "--builder docker" in argosy.fails(*oci, "--docker-steps", bad)
    assert argosy.json("image", "list") == before


def test_a_failing_step_shows_its_line_and_last_lines(
    argosy: Argosy, create: list[str], image: str, tmp_path: Path
) -> None:
    bad = tmp_path / "failing.txt"
    bad.write_text("RUN echo fine\nRUN echo there is no such package >&2 && exit 100\n")
    said = argosy.fails(*create, "--docker-steps", bad)
    assert f"{bad}, line 2: RUN echo there is no such" in said and "code 100" in said
    assert "  | there is no such package" in said
    assert "there is no such package" in argosy.ok("image", "logs", "iris").out


def test_a_control_plane_killed_in_a_step_finishes_the_build_later(
    argosy: Argosy, create: list[str], image: str, engine: tuple[str, Podman], tmp_path: Path
) -> None:
    slow = tmp_path / "slow.txt"
    slow.write_text("RUN echo before > /srv/before\nRUN sleep 6; echo after > /srv/after\n")
    asked = [sys.executable, "-m", "argosy.cli", *create, "--docker-steps", str(slow)]
    waiting = subprocess.Popen(asked, env=argosy.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = argosy.home / "logs" / "images" / "iris.log"
    deadline = time.monotonic() + 120
    while "Step 2/2" not in log.read_text() or "sleep" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    psutil.Process(argosy.address["pid"]).kill()
    tags = set(OciLayout(argosy.home / "oci").tags())
    assert tags == {"iris:1"}, "nothing is half-tagged"
    argosy.ok("up")
    assert waiting.wait(300) == 0, "who waits meanwhile gets the image"
    assert "kept from an earlier build" in argosy.ok("image", "logs", "iris:2").out
    while (left := _left(engine[0])) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left


def test_the_dockerfile_builds_the_same_by_hand(
    argosy: Argosy, image: str, engine: tuple[str, Podman], iris: Path, tmp_path: Path
) -> None:
    podman = engine[1]
    printed = argosy.ok("image", "dockerfile", image).out
    assert "COPY words.txt /srv/" in printed and "RUN echo installing" in printed and "ARG BASE" in printed
    argosy.ok("image", "dockerfile", image, "-f", tmp_path / "context.tar")
    folder = tmp_path / "context"
    shutil.unpack_archive(tmp_path / "context.tar", folder, filter="data")
    assert (folder / "Dockerfile").read_text() == printed
    # The base of these tests has no history, which Podman's build does not take: the same files as an image with one.
    files = argosy.json("image", "show", image)["contents"][0]["layers"][0]["digest"]
    podman("import", str(OciLayout(argosy.home / "oci").path(files)), "localhost/base:1")
    options = ["--network", "host", "--build-arg", "BASE=localhost/base:1", "--tag", "byhand"]
    built = podman("build", *options, str(folder), check=False)
    assert built.returncode == 0, built.stderr
    _answers(podman, "byhand", (iris / "sample.json").read_text())


def _answers(podman: Podman, image: str, sample: str) -> None:
    """Alone in a container, with what the steps made, without root, network and a writable root."""
    locked = ["--read-only", "--network", "none", "--cap-drop", "ALL"]
    container = podman("run", "--detach", *locked, "--env", "ARGOSY_KEYS=key", image).stdout.strip()
    try:
        deadline = time.monotonic() + 120
        while "Ready after" not in (log := podman("logs", container).stdout):
            assert time.monotonic() < deadline and "Not ready" not in log, log
            time.sleep(0.2)
        said = podman("exec", "-i", container, "python", "-c", ASK, "key", stdin=sample)
        assert json.loads(json.loads(said.stdout)) == ["setosa", "versicolor"]
        assert podman("exec", container, "sh", "-c", "cat /srv/installed; echo $SEA").stdout == "ahoy\ncalm\n"
        assert podman("exec", container, "id", "-u").stdout == "65532\n"
    finally:
        podman("rm", "--force", "--time", "0", container)


def _left(engine: str) -> list[str]:
    api = docker.APIClient(engine, version="auto")
    try:
        names = [name for image in api.images() for name in image["RepoTags"] or []]
        return [name for name in names if "argosy-build" in name] + [c["Id"] for c in api.containers(all=True)]
    finally:
        api.close()

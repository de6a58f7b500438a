"""A model served with conda's packages, without conda: in a process environment, and in a container."""

import base64
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
import sklearn
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from conftest import Require
from e2e.containers import Podman, base_image
from e2e.running import Argosy
from manifests.conda_channel import (
    ELSEWHERE,
    HERE,
    PLACEHOLDER,
    CondaChannel,
    Served,
    conda_python,
    fill_channel,
    serve_channel,
)

__all__ = ["conda_python"]
SCORE = """
import subprocess
import sys

import greet
import joblib


def init():
    global model
    model = joblib.load("model.pkl")


def run(rows):
    return {
        "species": model.predict(rows).tolist(),
        "greet": greet.VERSION,
        "python": sys.version.split()[0],
        "prefix": sys.prefix,
        "ffmpeg": subprocess.run(["ffmpeg"], capture_output=True, text=True, check=True).stdout.strip(),
    }
"""
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
SWAGGER = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}, "example": ROWS}
SCHEMA = {"input": {"rows": {"type": "numpy", "dtype": "float64", "swagger": SWAGGER}}}
ASK = """
import sys, urllib.request
headers = {"Authorization": "Bearer first-key", "Content-Type": "application/json"}
request = urllib.request.Request("http://127.0.0.1:5001/score", sys.stdin.buffer.read(), headers)
print(urllib.request.urlopen(request).read().decode())
"""


@pytest.fixture(scope="module")
def channel(conda_python: CondaChannel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A private channel that has a program called ffmpeg, too."""
    filled = fill_channel(conda_python, tmp_path_factory.mktemp("channel") / "private")
    program = b"#!" + PLACEHOLDER + b"/bin/python\nprint('ffmpeg of conda')\n"
    for platform in (HERE, ELSEWHERE):
        filled.add("ffmpeg", "7.1", {"bin/ffmpeg": program}, subdir=platform)
    with serve_channel(filled.folder) as served:
        yield served


@pytest.fixture(scope="module")
def argosy(module_home: Path, channel: Served, tmp_path_factory: pytest.TempPathFactory) -> Argosy:
    variables = {
        "ARGOSY_CONDA_CHANNELS": channel.url(login="joe:s3cret@"),
        "RATTLER_CACHE_DIR": str(tmp_path_factory.mktemp("rattler")),
    }
    running = Argosy(module_home, variables)
    running.up()
    return running


@pytest.fixture(scope="module")
def recipe(channel: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    features, species = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=1000).fit(features, species), folder / "model.pkl")
    (folder / "score.py").write_text(SCORE)
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    (folder / "conda.yml").write_text(
        f"channels:\n  - {channel.url()}\ndependencies:\n  - python=3.12\n  - ffmpeg\n  - greet=1\n"
        f"  - pip:\n    - scikit-learn=={sklearn.__version__}\n    - joblib\n"
    )
    return folder


def options(folder: Path) -> list[str]:
    files = {"-m": "model.pkl", "-f": "score.py", "-c": "conda.yml", "-s": "schema.json"}
    return [word for option, name in files.items() for word in (option, str(folder / name))]


@pytest.fixture(scope="module")
def service(argosy: Argosy, recipe: Path) -> str:
    argosy.ok("service", "create", "flowers", *options(recipe))
    return "flowers"


def check_answer(answer: Any, prefix: str) -> None:
    assert answer["species"] == [0, 2]
    assert (answer["greet"], answer["ffmpeg"]) == ("1.0", "ffmpeg of conda")
    assert answer["python"].startswith("3.12.") and answer["prefix"].startswith(prefix)


@pytest.mark.shows(
    "Scripts that run unmodified",
    "Conda files with names that only conda has, without conda",
    "`ffmpeg` and a `noarch: python` library of a private channel, `scikit-learn` below `pip:`",
)
def test_a_service_runs_with_condas_packages(argosy: Argosy, service: str) -> None:
    answer = json.loads(argosy.ok("service", "run", service, "-d", json.dumps({"rows": ROWS})).out)
    check_answer(answer, str(argosy.home / "envs"))
    manifest = argosy.json("manifest", "show", service)
    assert any("ffmpeg is on no package index" in note for note in manifest["notes"])
    shown = argosy.ok("manifest", "show", service, "--lock").out
    assert "/ffmpeg-7.1-h0_0.conda" in shown and "scikit-learn==" in shown and "--hash=sha256:" in shown


def test_a_new_model_keeps_the_packages(argosy: Argosy, service: str, recipe: Path) -> None:
    before = argosy.json("manifest", "show", service)["recipe"]["lock"]
    features, species = load_iris(return_X_y=True)
    (recipe / "again").mkdir()
    joblib.dump(LogisticRegression(max_iter=500, C=0.5).fit(features, species), recipe / "again" / "model.pkl")
    argosy.ok("service", "update", service, "-m", recipe / "again" / "model.pkl")
    manifest = argosy.json("manifest", "show", service)
    assert manifest["version"] == 2 and manifest["recipe"]["lock"] == before


def test_an_image_runs_with_condas_packages_in_a_container(argosy: Argosy, service: str, require: Require) -> None:
    debootstrap, podman = require("debootstrap"), require("podman")
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a base image with debootstrap: run the tests as root")
    base, python = base_image(debootstrap)
    assert python != "3.12", "the image's Python must be seen to be conda's"
    create = ["image", "create", "-n", "blooms", "--manifest", f"{service}:1", "--builder", "oci", "--base", base]
    argosy.ok(*create, "--platform", "linux/amd64,linux/arm64")
    first = argosy.json("image", "show", "blooms")["oci"]
    assert set(first) == {"linux/amd64", "linux/arm64"}
    engine = Podman(podman, Path(tempfile.mkdtemp(prefix="podman-")))
    try:
        argosy.ok("image", "save", "blooms", "-f", engine.folder / "image.tar", "--platform", "linux/amd64")
        engine("load", "--input", str(engine.folder / "image.tar"))
        locked = ["--read-only", "--user", "65532", "--network", "none", "--cap-drop", "ALL"]
        engine("run", "--detach", "--name", "flowers", *locked, "--env", "ARGOSY_KEYS=first-key", "blooms:1")
        deadline = time.monotonic() + 120
        while "Ready after" not in (logs := engine("logs", "flowers")).stdout:
            running = engine("inspect", "--format", "{{.State.Running}}", "flowers").stdout.strip() == "true"
            assert running and time.monotonic() < deadline, logs.stdout + logs.stderr
            time.sleep(0.2)
        said = engine("exec", "-i", "flowers", "python", "-c", ASK, stdin=json.dumps({"rows": ROWS})).stdout
        check_answer(json.loads(said), "/opt/argosy")
    finally:
        engine.clean()
        shutil.rmtree(engine.folder, ignore_errors=True)


def test_credentials_of_channels_are_nowhere(argosy: Argosy, service: str) -> None:
    """Neither in the database, logs, environments, nor in the layers of images; neither as they are nor packed as HTTP
    has them."""
    forms = [b"s3cret", *in_base64(b"s3cret")]
    assert any(form in base64.b64encode(b"joe:s3cret") for form in forms), "the search finds what is there"
    searched = 0
    for folder in (argosy.home, (argosy.home / "envs").resolve()):
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                searched += 1
                content = path.read_bytes()
                assert not any(form in content for form in forms), path
    assert searched > 1000


def in_base64(secret: bytes) -> Iterator[bytes]:
    """What base64 makes of the secret whatever stands before and after it: three bytes become four letters."""
    for before in range(3):
        packed = base64.b64encode(bytes(before) + secret)
        yield packed[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]


def test_mistakes_of_conda_files_are_told(argosy: Argosy, channel: Served, recipe: Path, tmp_path: Path) -> None:
    create = ["manifest", "create", "-n", "broken", *options(recipe)[:-4], "-s", recipe / "schema.json"]
    for listed, said in (
        ("[python, no-such-package]", "line 2: no-such-package: none of the channels"),
        ("[python=3.13, greet]", "python=3.13 (there is 3.12"),
        ("[python, 'greet!!']", "is no conda package"),
    ):
        (tmp_path / "conda.yml").write_text(f"channels: ['{channel.url()}']\ndependencies: {listed}\n")
        assert said in argosy.fails(*create, "-c", tmp_path / "conda.yml", "--conda")
    (tmp_path / "conda.yml").write_text("channels: ['http://127.0.0.1:1/x']\ndependencies: [python]\n")
    assert "did not answer" in argosy.fails(*create, "-c", tmp_path / "conda.yml", "--conda", code=2)
    assert "needs a conda file" in argosy.fails(*create, "--conda")

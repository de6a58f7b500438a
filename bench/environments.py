"""A uv environment for each peer, from the package index, kept between runs; and what it weighs."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from uv import find_uv_bin

from bench import machine

# What a model needs itself, the same versions for everybody: not counted as a server's own weight.
MODEL_PACKAGES = ("scikit-learn==1.9.1", "numpy==2.4.6", "pandas==3.1.1", "joblib")


class NotInstalled(Exception):
    """The index or the resolver refused; the message is what uv said."""


def python_of(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of the environment `name`, made now if it is missing or had other requirements."""
    folder = machine.cache() / name
    venv = folder / "venv"
    wanted = json.dumps(sorted(requirements)) + _base_python()
    marker = folder / f"{hashlib.sha256(wanted.encode()).hexdigest()[:16]}.installed"
    if not marker.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _uv("venv", "--python", _base_python(), str(venv))
        _uv("pip", "install", "--python", str(venv / "bin" / "python"), "--compile-bytecode", *requirements)
        marker.touch()
    return venv / "bin" / "python"


def versions(python: Path) -> dict[str, str]:
    """Package to version of everything in an environment."""
    lines = _uv("pip", "freeze", "--python", str(python)).splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line)


def size_bytes(python: Path) -> int:
    packages = next((python.parents[1] / "lib").glob("python*")) / "site-packages"
    return sum(
        Path(place, file).lstat().st_size
        for place, _, files in os.walk(packages)
        for file in files
        if not file.endswith(".pyc")
    )


def base() -> Path:
    """The environment that holds a model's own packages and nothing else."""
    return python_of("base", MODEL_PACKAGES)


def model_file(work: str) -> Path:
    """The trained model, the same file for every server."""
    path = machine.cache() / "models" / work / "model.joblib"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        train(work, base(), path)
    return path


def train(work: str, python: Path, path: Path) -> Path:
    fresh = path.with_suffix(".new")
    command = [python, machine.APPS / "work.py", fresh]
    subprocess.run(command, env=machine.clean_environ(BENCH_WORK=work), check=True)
    return fresh.rename(path)


def _base_python() -> str:
    return str(getattr(sys, "_base_executable", sys.executable))


def _uv(*arguments: str) -> str:
    done = subprocess.run([find_uv_bin(), *arguments], capture_output=True, text=True, env=machine.clean_environ())
    if done.returncode:
        raise NotInstalled(done.stderr.strip()[-500:])
    return done.stdout

"""Each folder of `examples/`, deployed exactly as its README says and scored."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.calls import call
from e2e.running import Argosy

EXAMPLES = Path(__file__).parents[2] / "examples"


def blocks(example: str) -> list[str]:
    text = (EXAMPLES / example / "README.md").read_text()
    return re.findall(r"^```(?:sh)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


NAMES = sorted(readme.parent.name for readme in EXAMPLES.glob("*/README.md"))
# Each block of a README is a way of its own, which begins with nothing registered.
WAYS = [(name, number) for name in NAMES for number in range(len(blocks(name)))]

# What the stored sample of each service is answered with.
ANSWERS: dict[str, Callable[[Any], bool]] = {
    "iris": lambda answer: json.loads(answer) == ["setosa", "versicolor"],
    "digits": lambda answer: answer["digits"] != [] and set(answer["digits"]) <= set(range(10)),
    "digits-image": lambda answer: answer["digit"] in range(10),
    "topics": lambda answer: all(one["label"] in one["probabilities"] for one in answer),
    "diabetes": lambda answer: all(20 < one < 350 for one in answer),
}


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples without what training makes; nothing is written into the repository."""
    place = tmp_path_factory.mktemp("examples")
    made = shutil.ignore_patterns("__pycache__", "*.pkl", "*.joblib")
    shutil.copytree(EXAMPLES, place, ignore=made, dirs_exist_ok=True)
    return place


@pytest.mark.parametrize(("example", "number"), WAYS)
def test_readme(fresh: Argosy, copies: Path, example: str, number: int) -> None:
    script = blocks(example)[number]
    if "train.py" not in script:
        script = f"python train.py\n{script}"
    fresh.up()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=copies / example,
        env=fresh.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    services = fresh.json("service", "list")
    assert services, "every way ends with a service"
    for service in services:
        name = service["name"]
        assert service["state"] == "healthy"
        answer = fresh.json("service", "run", name)
        assert ANSWERS[name](answer), answer
        assert call(service["scoring_url"], {"no such input": 1}, token=fresh.key(name)).status in (400, 500)
        swagger = call(service["swagger_url"], token=fresh.key(name)).json
        assert f"/api/v1/service/{name}/score" in json.dumps(swagger)

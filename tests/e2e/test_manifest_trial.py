"""`argosy manifest test`, and what it advises."""

import json
from pathlib import Path

import pytest

from e2e.running import Argosy, RecipeFolder


@pytest.mark.shows(
    "The local loop",
    "`argosy manifest test`",
    "answers, time per stage, the difference from the recorded answer",
)
def test_samples_times_and_differences(argosy: Argosy, recipe: RecipeFolder, tmp_path: Path) -> None:
    (tmp_path / "sample.json").write_text(json.dumps({"input": {"numbers": [1, 2]}, "output": [2.0, 5.0]}))
    made = ("manifest", "create", "-n", "doubled", "-m", recipe.model(2), *recipe.options())
    argosy.ok(*made, "--sample", tmp_path / "sample.json")
    done = argosy("manifest", "test", "doubled", "-o", "json")
    report = done.json
    assert (done.code, report["ok"], report["failure"]) == (1, False, "")
    answer = report["answers"][0]
    assert (answer["status"], answer["output"], answer["recorded"]) == (200, [2.0, 4.0], [2.0, 5.0])
    assert "/1: expected 5.0, received 4" in answer["difference"]
    assert set(answer["times_ms"]) >= {"queue", "decode", "run", "encode"}
    shown = argosy("manifest", "test", "doubled").out
    assert "differs" in shown and "- 5.0" in shown and "+ 4" in shown
    assert argosy.json("service", "list") == [], "no service is made"


def test_answers_are_recorded_in_a_new_version(argosy: Argosy, recipe: RecipeFolder) -> None:
    argosy.ok("manifest", "create", "-n", "kept", "-m", recipe.model(2), *recipe.options())
    assert "recorded in manifest kept:2" in argosy.ok("manifest", "test", "kept", "--record").err
    assert argosy.json("manifest", "show", "kept")["recipe"]["samples"] == [
        {"input": {"numbers": [1.0, 2.0]}, "output": [2.0, 4.0]}
    ]
    assert "as recorded" in argosy.ok("manifest", "test", "kept").out


def test_json_inside_a_string_is_warned_of(argosy: Argosy, recipe: RecipeFolder) -> None:
    script = "import json\ndef run(numbers):\n    return json.dumps(numbers)\n"
    argosy.ok("manifest", "create", "-n", "texts", "-m", recipe.model(2), *recipe.options(script))
    assert "warning: run() returns a string that holds JSON" in argosy.ok("manifest", "test", "texts").out


@pytest.mark.shows(
    "The local loop",
    "A missing package names the file to change",
    "``add a line `pyyaml` to requirements.txt``",
)
def test_a_missing_package_names_the_file_to_change(argosy: Argosy, recipe: RecipeFolder) -> None:
    script = "import yaml\ndef run(numbers):\n    return numbers\n"
    options = ("-m", recipe.model(2), *recipe.options(script))
    argosy.ok("manifest", "create", "-n", "lacking", *options)
    done = argosy("manifest", "test", "lacking")
    assert done.code == 1
    assert "No module named 'yaml'" in done.out
    assert "fix: 'yaml' is missing: add a line `pyyaml` to requirements.txt." in done.out
    said = argosy.fails("service", "create", "lacking", *options, code=2)
    assert "add a line `pyyaml` to requirements.txt." in said


def test_advice_names_the_file_that_the_user_has(argosy: Argosy, recipe: RecipeFolder, tmp_path: Path) -> None:
    """Also for manifests that are made from another, where no file is given."""
    script = "import yaml\ndef run(numbers):\n    return numbers\n"
    (tmp_path / "my-conda.yaml").write_text("dependencies:\n  - joblib\n")
    (tmp_path / "score.py").write_text(script)
    options = ("-s", recipe.folder / "schema.json", "-c", tmp_path / "my-conda.yaml", "-f", tmp_path / "score.py")
    argosy.ok("manifest", "create", "-n", "named", "-m", recipe.model(2), *options)
    argosy.ok("manifest", "create", "-n", "renewed", "--from", "named:1", "-m", recipe.model(3))
    for name in ("named", "renewed"):
        done = argosy("manifest", "test", name)
        assert done.code == 1
        assert "fix: 'yaml' is missing: add `pyyaml` to `dependencies` in my-conda.yaml." in done.out


def test_what_run_raises_is_shown(argosy: Argosy, recipe: RecipeFolder) -> None:
    script = "def run(numbers):\n    return numbers[99]\n"
    argosy.ok("manifest", "create", "-n", "raising", "-m", recipe.model(2), *recipe.options(script))
    done = argosy("manifest", "test", "raising")
    assert done.code == 1
    assert "HTTP 500" in done.out and "  | IndexError: list index out of range" in done.out
    assert "Nothing is recorded" in argosy.fails("manifest", "test", "raising", "--record")
    assert "There is no manifest" in argosy.fails("manifest", "test", "nothing")

"""From what a user gave to a frozen recipe. The resolver has tests of its own: here it counts and answers at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from argosy.errors import (
    InvalidDependencies,
    InvalidFile,
    InvalidOption,
    InvalidSchema,
    InvalidScript,
    NotFound,
    TooLarge,
    UserError,
)
from argosy.manifests import create as create_module
from argosy.manifests.create import ManifestBuilder
from argosy.manifests.dependencies import Dependencies
from argosy.models.registry import ModelRegistry
from argosy.models.request import ModelRequest
from argosy.records import FileEntry, Lock, Manifest
from argosy.settings import Settings
from store.shelf import Shelf

SCRIPT = b"import json\n\ndef init(): ...\n\ndef run(numbers):\n    return numbers\n"
SCHEMA = {"input": {"numbers": {"type": "standard", "swagger": {"type": "array", "items": {"type": "number"}}}}}
Create = Callable[..., Manifest]


@dataclass
class Workshop:
    shelf: Shelf
    builder: ManifestBuilder
    asked: list[tuple[list[str], str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def file(self, path: str, content: bytes = SCRIPT) -> dict[str, Any]:
        return vars(self.shelf.file(path, content))

    def create(self, **request: Any) -> Manifest:
        whole = {
            "name": "iris",
            "models": ["iris:1"],
            "script": "score.py",
            "files": [self.file("score.py")],
            "schema": SCHEMA,
            "requirements": "joblib\n",
            **request,
        }
        return self.create_only(**{key: value for key, value in whole.items() if value is not None})

    def create_only(self, **request: Any) -> Manifest:
        return self.builder.create(request, self.said.append)


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    shelf = Shelf(tmp_path)
    settings = Settings()
    models = ModelRegistry(shelf.database, shelf.blobs, settings)
    made = Workshop(shelf, ManifestBuilder(models, shelf.manifests, shelf.blobs, settings))

    def resolve(wishes: Dependencies, python: str, serving: Sequence[str], *_: object, **__: object) -> Lock:
        texts = sorted(requirement.text for requirement in wishes.requirements)
        made.asked.append((texts, python))
        return Lock(python, "".join(f"{text}\n" for text in texts), dict.fromkeys(texts, "1"))

    monkeypatch.setattr(create_module, "resolve", resolve)
    shelf.model()
    yield made
    shelf.close()


def test_a_recipe_is_frozen(workshop: Workshop) -> None:
    manifest = workshop.create(runtime="python:3.12", environment={"A": "1"}, secrets={"K": "env:NAME"})
    recipe = manifest.recipe
    assert (manifest.reference, recipe.runtime, recipe.script) == ("iris:1", "python:3.12", "score.py")
    assert [pin.reference for pin in recipe.models] == ["iris:1"]
    assert (recipe.environment, recipe.secrets) == ({"A": "1"}, {"K": "env:NAME"})
    assert workshop.asked == [(["joblib"], "3.12")]
    assert recipe.samples and "output" not in recipe.samples[0]
    assert any("sample" in note for note in manifest.notes)


def test_the_same_again_is_the_same_version(workshop: Workshop) -> None:
    first = workshop.create()
    assert workshop.create() == first
    assert workshop.create(environment={"A": "1"}).version == 2
    assert workshop.create(name="other").reference == "other:1"


def test_dependencies_are_inferred_when_none_are_given(workshop: Workshop) -> None:
    script = b"import yaml\ndef run(numbers): return numbers\n"
    manifest = workshop.create(requirements=None, files=[workshop.file("score.py", script)])
    assert any("yaml" in text.lower() for text in manifest.recipe.inferred)
    assert any("Inferred" in line for line in workshop.said)


@pytest.mark.parametrize(
    ("request_", "error", "match"),
    [
        ({"models": ["nobody"]}, NotFound, "nobody"),
        ({"models": ["iris:9"]}, NotFound, "iris:9"),
        ({"models": ["iris:1", "iris:2"]}, UserError, "iris"),
        ({"script": ""}, InvalidOption, "script"),
        ({"script": "other.py"}, InvalidFile, "other.py"),
        ({"files": []}, InvalidFile, "score.py"),
        ({"schema": {"input": 1}}, InvalidSchema, "input"),
        ({"samples": [{"input": {"wrong": 1}}]}, InvalidFile, "numbers"),
        ({"serving": {"colour": "red"}}, InvalidOption, "colour"),
        ({"serving": {"string_answers": "loud"}}, InvalidOption, "json"),
        ({"serving": {"max_batch_size": 0}}, InvalidOption, "from 1"),
        ({"serving": {"max_batch_delay_ms": 0.5}}, InvalidOption, "whole number"),
        (
            {
                "serving": {"max_batch_size": 8},
                "schema": {"input": {"numbers": {"type": "numpy", "dtype": "int64", "shape": [3]}}},
            },
            InvalidOption,
            "the first axis of numbers is not free",
        ),
        ({"environment": {"PYTHONPATH": "/x"}}, InvalidOption, "PYTHONPATH"),
        ({"environment": {"A": "\ud800"}}, InvalidOption, "character"),
        ({"secrets": {"A": "plain text"}}, InvalidOption, "env:NAME"),
        ({"runtime": "ruby:3"}, UserError, "ruby"),
        ({"runtime": "python:3.5"}, UserError, r"3\.5"),
        ({"from": "nobody:1"}, NotFound, "nobody"),
    ],
)
def test_what_cannot_be_a_manifest(
    workshop: Workshop, request_: dict[str, Any], error: type[UserError], match: str
) -> None:
    workshop.shelf.model()
    with pytest.raises(error, match=match):
        workshop.create(**request_)
    with pytest.raises(NotFound):
        workshop.shelf.manifests.page(10, None, "iris")
    assert workshop.asked == [], "refused before anything long"


@pytest.mark.parametrize(
    ("script", "match"),
    [
        (b"def run(:", "score.py"),
        (b"def init(): ...\n", "run"),
        (b"def run(other): ...\n", "other"),
        (b"\xff\xfe", "score.py"),
    ],
)
def test_scripts_that_cannot_work(workshop: Workshop, script: bytes, match: str) -> None:
    with pytest.raises(InvalidScript, match=match):
        workshop.create(files=[workshop.file("score.py", script)])


@pytest.mark.parametrize("path", ["../score.py", "/etc/score.py", "a//score.py", "a/./score.py", "C:score.py", "a\0"])
def test_paths_that_escape(workshop: Workshop, path: str) -> None:
    with pytest.raises(InvalidFile):
        workshop.create(files=[workshop.file("score.py"), workshop.file(path)])


def test_files_must_be_uploaded_and_as_long_as_they_say(workshop: Workshop) -> None:
    whole = workshop.file("score.py")
    with pytest.raises(InvalidFile, match="not uploaded"):
        workshop.create(files=[{**whole, "sha256": "0" * 64}])
    with pytest.raises(InvalidOption, match="hexadecimal"):
        workshop.create(files=[{**whole, "sha256": "../../../etc/passwd"}])
    for size in (0, -1, 10**30):
        with pytest.raises(InvalidFile, match="announced"):
            workshop.create(files=[{**whole, "size_bytes": size}])


def test_a_script_has_a_limit(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create_module, "_SCRIPT_LIMIT_BYTES", 10)
    with pytest.raises(TooLarge, match=r"score\.py"):
        workshop.create()


def test_names_that_clash_in_the_working_directory(workshop: Workshop) -> None:
    with pytest.raises(InvalidFile, match="room for one"):
        workshop.create(files=[workshop.file("score.py"), workshop.file("model.pkl", b"x")])
    workshop.shelf.models.register(ModelRequest("other", "file", [workshop.shelf.file("model.pkl", b"o")]))
    with pytest.raises(InvalidFile, match="other:1"):
        workshop.create(models=["iris:1", "other:1"])


def test_from_renews_for_another_model(workshop: Workshop) -> None:
    first = workshop.create(
        samples=[{"input": {"numbers": [1.0]}, "output": [1.0]}],
        environment={"A": "1"},
        serving={"string_answers": "raw"},
    )
    workshop.shelf.model(content=b"new weights")
    batches = {"max_batch_size": 8}
    second = workshop.create_only(name="iris", **{"from": "iris:1", "models": ["iris:2"]}, serving=batches)
    assert [pin.reference for pin in second.recipe.models] == ["iris:2"]
    assert second.recipe.lock == first.recipe.lock
    assert len(workshop.asked) == 1, "nothing is resolved again"
    assert second.recipe.samples == [{"input": {"numbers": [1.0]}}], "the old answer is not the new model's"
    assert (second.recipe.environment, second.recipe.serving) == ({"A": "1"}, {"string_answers": "raw"} | batches)


def test_from_with_another_script(workshop: Workshop) -> None:
    workshop.create(files=[workshop.file("score.py"), workshop.file("help.py", b"X = 1\n")], samples=[
        {"input": {"numbers": [1.0]}, "output": [1.0]},
    ])  # fmt: skip
    fixed = b"def run(numbers): return [2 * n for n in numbers]\n"
    second = workshop.create_only(name="iris", **{"from": "iris", "files": [workshop.file("score.py", fixed)]})
    assert [entry.path for entry in second.recipe.files] == ["help.py", "score.py"]
    assert second.recipe.samples == [{"input": {"numbers": [1.0]}}], "the old answer is not the new script's"
    third = workshop.create_only(
        name="iris", **{"from": "iris", "script": "new.py", "files": [workshop.file("new.py", fixed)]}
    )
    assert [entry.path for entry in third.recipe.files] == ["help.py", "new.py"]


def test_from_with_other_dependencies_or_schema(workshop: Workshop) -> None:
    workshop.create(samples=[{"input": {"numbers": [1.0]}}])
    second = workshop.create_only(name="iris", **{"from": "iris", "requirements": "joblib==1.4\n"})
    assert workshop.asked[-1][0] == ["joblib==1.4"]
    assert second.recipe.samples == [{"input": {"numbers": [1.0]}}]
    text = {"input": {"numbers": {"type": "standard", "swagger": {"type": "string", "example": "one"}}}}
    third = workshop.create_only(name="iris", **{"from": "iris", "schema": text})
    assert third.recipe.samples == [{"input": {"numbers": "one"}}], "old samples do not fit a new schema"


def test_dependency_files_keep_their_names(workshop: Workshop) -> None:
    """In the recipe, and in those made from it, so that advice names the file that the user has."""
    workshop.create(requirements="joblib==1.4\n", requirements_name="pins.txt")
    second = workshop.create_only(name="iris", **{"from": "iris", "samples": [{"input": {"numbers": [2.0]}}]})
    assert (second.recipe.requirements_name, second.recipe.conda_name) == ("pins.txt", "")
    with pytest.raises(InvalidDependencies, match=r"pins\.txt line 1"):
        workshop.create_only(
            name="iris", **{"from": "iris", "requirements": "./x.whl\n", "requirements_name": "pins.txt"}
        )
    third = workshop.create_only(name="iris", **{"from": "iris", "conda": "dependencies:\n  - joblib\n"})
    assert (third.recipe.requirements_name, third.recipe.conda_name) == ("", "conda.yml")


def test_entries_are_plain_records(workshop: Workshop) -> None:
    assert all(isinstance(entry, FileEntry) for entry in workshop.create().recipe.files)

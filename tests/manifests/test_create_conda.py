"""When a manifest is made of conda's packages: asked for, as before, or for what no package index has."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from argosy.errors import InvalidDependencies, InvalidOption
from argosy.manifests import create as create_module
from argosy.manifests.create import ManifestBuilder
from argosy.models.registry import ModelRegistry
from argosy.records import Manifest
from argosy.settings import Settings
from manifests.conda_channel import CondaChannel
from manifests.package_index import PackageIndex
from store.shelf import Shelf

SCRIPT = b"def init(): ...\n\ndef run(body):\n    return body\n"


class Workshop:
    def __init__(self, folder: Path, index: PackageIndex) -> None:
        self.shelf = Shelf(folder)
        settings = Settings(index_url=index.url)
        models = ModelRegistry(self.shelf.database, self.shelf.blobs, settings)
        self.builder = ManifestBuilder(models, self.shelf.manifests, self.shelf.blobs, settings)
        self.said: list[str] = []
        self.shelf.model()

    def create(self, conda: str | None, **more: Any) -> Manifest:
        files = [vars(self.shelf.file("score.py", SCRIPT))]
        request = {"name": "iris", "models": ["iris:1"], "script": "score.py", "files": files, "conda": conda, **more}
        return self.builder.create(
            {key: value for key, value in request.items() if value is not None}, self.said.append
        )


@pytest.fixture
def workshop(index: PackageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    monkeypatch.setattr(create_module, "REQUIREMENTS", ("beta<2",))
    made = Workshop(tmp_path, index)
    yield made
    made.shelf.close()


def a_file(channel: CondaChannel, *packages: str) -> str:
    lines = [f"channels: ['{channel.url}']", "dependencies:", *(f"  - {package}" for package in packages)]
    return "\n".join(lines) + "\n"


def test_names_of_an_index_come_from_there(workshop: Workshop, channel: CondaChannel) -> None:
    lock = workshop.create(a_file(channel, "python=3.12", "alpha")).recipe.lock
    assert lock.conda == [] and lock.channels == [] and lock.packages["alpha"] == "1.0"


def test_a_name_that_no_index_has_makes_it_condas(workshop: Workshop, channel: CondaChannel) -> None:
    manifest = workshop.create(a_file(channel, "tool", "pip: [alpha]"))
    lock = manifest.recipe.lock
    assert lock.packages["tool"] == "2.0" and "alpha==1.0" in lock.text
    assert manifest.recipe.runtime == "python:3.12"
    assert any("tool is on no package index" in note for note in manifest.notes)


def test_programs_that_scripts_call_are_not_looked_for_on_an_index(
    workshop: Workshop, channel: CondaChannel, index: PackageIndex
) -> None:
    channel.add("ffmpeg", "7.1", {"bin/ffmpeg": b"x"})
    assert workshop.create(a_file(channel, "ffmpeg")).recipe.lock.packages["ffmpeg"] == "7.1"
    assert not any("ffmpeg" in path for path in index.asked)


def test_it_can_be_asked_for(workshop: Workshop, channel: CondaChannel) -> None:
    channel.add_library("alpha", "1.5", "VERSION = 'of conda'\n")
    lock = workshop.create(a_file(channel, "alpha>=1,<1.4|>1.4"), with_conda=True).recipe.lock
    assert lock.packages["alpha"] == "1.5" and "alpha" not in lock.text
    with pytest.raises(InvalidOption, match="needs a conda file"):
        workshop.create(None, requirements="alpha\n", with_conda=True)


def test_a_name_that_is_nowhere_is_told_with_both_reasons(workshop: Workshop, channel: CondaChannel) -> None:
    with pytest.raises(InvalidDependencies) as refused:
        workshop.create(a_file(channel, "tooll"))
    assert "no package 'tooll' on the package index" in refused.value.message
    assert "line 3: tooll: none of the channels" in refused.value.message


def test_an_unknown_package_below_pip_is_not_looked_for_in_channels(workshop: Workshop, channel: CondaChannel) -> None:
    with pytest.raises(InvalidDependencies) as refused:
        workshop.create(a_file(channel, "alpha", "pip: [tooll]"))
    assert "channels" not in refused.value.message


def test_what_is_based_on_it_keeps_the_lock(workshop: Workshop, channel: CondaChannel) -> None:
    first = workshop.create(a_file(channel, "greet", "pip: [alpha]"), with_conda=True)
    channel.add_library("greet", "2.0", "VERSION = '2.0'\n")
    again = workshop.builder.create({"name": "iris", "from": "iris:1", "environment": {"A": "1"}}, workshop.said.append)
    assert again.version == 2 and again.recipe.lock == first.recipe.lock

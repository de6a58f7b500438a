"""What images say of steps below them: where they came from, also when the next image stands on what the steps made."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from argosy.errors import InvalidOption
from argosy.images.docker.build import DockerSteps
from argosy.images.docker.dockerfile import dockerfile
from argosy.images.oci.attachments import attached
from argosy.images.oci.layout import BASE_DIGEST, STEPS
from argosy.records import Environment, Image
from argosy.server.placement import build_orders
from images.oci.house import House
from images.oci.images import layer, make_base
from images.test_conda import a_lock
from manifests.conda_channel import CondaChannel
from manifests.package_index import PackageIndex

TEXT = "ENV SEA=calm\nCOPY score.py /srv/\n"


def with_steps(here: House, base: str) -> Image:
    steps = DockerSteps(TEXT, "steps.txt")
    return here.images.create("iris", here.manifest(), "", base, ["linux/amd64"], here.said.append, steps)


def said(here: House, image: Image, kind: str) -> dict[str, Any]:
    found = attached(here.layout, image.oci["linux/amd64"], kind)
    assert found is not None
    return found


def annotations(here: House, image: Image) -> dict[str, str]:
    found: dict[str, str] = here.layout.json(image.oci["linux/amd64"])["annotations"]
    return found


def test_the_documents_name_the_base_that_was_named_and_the_steps(
    house: Callable[[str], House], tmp_path: Path
) -> None:
    here = house("one")
    image = with_steps(here, make_base(tmp_path / "base"))
    origin = annotations(here, image)[BASE_DIGEST].removeprefix("sha256:")
    steps = sha256(TEXT.encode()).hexdigest()
    made = image.layers[0].key.removeprefix("sha256:")
    assert len({origin, steps, made}) == 3

    built = said(here, image, "provenance")["predicate"]
    materials = {part.get("name"): part.get("digest") for part in built["buildDefinition"]["resolvedDependencies"]}
    assert materials["base"] == {"sha256": origin} and materials["docker steps"] == {"sha256": steps}
    assert materials["base with steps"] == {"sha256": made}
    assert built["buildDefinition"]["externalParameters"]["base"] == f"sha256:{origin}"
    assert built["buildDefinition"]["buildType"] == "urn:argosy:build:docker:1"
    assert built["runDetails"]["builder"]["id"] == "urn:argosy:builder:docker"

    parts = {part["name"]: part for part in said(here, image, "sbom")["components"]}
    assert parts["base"]["version"] == f"sha256:{origin}" and parts["base with steps"]["version"] == f"sha256:{made}"
    assert parts["docker steps"]["hashes"] == [{"alg": "SHA-256", "content": steps}]


def test_without_steps_there_is_nothing_of_them(house: Callable[[str], House], tmp_path: Path) -> None:
    here = house("one")
    image = here.build(here.manifest(), make_base(tmp_path / "base"))
    built = said(here, image, "provenance")["predicate"]
    assert built["runDetails"]["builder"]["id"] == "urn:argosy:builder:oci"
    names = {part.get("name") for part in built["buildDefinition"]["resolvedDependencies"]}
    assert "base" in names and not any("steps" in name for name in names if name)
    assert not any("steps" in part["name"] for part in said(here, image, "sbom")["components"])


def test_the_image_of_an_update_still_says_where_it_came_from(house: Callable[[str], House], tmp_path: Path) -> None:
    here = house("one")
    first = with_steps(here, make_base(tmp_path / "base"))
    orders = build_orders(Environment("box", "container", ""), None, first)["oci"]
    retrained = here.manifest(b"retrained")
    say = here.said.append
    second = here.images.create(
        "iris", retrained, "", orders["base"], orders["platforms"], say, None, orders["base_digest"]
    )
    assert second.reference == "iris:2"
    assert annotations(here, second) == annotations(here, first) and annotations(here, first)[STEPS] == TEXT
    written = dockerfile(here.layout, second.reference, second.oci["linux/amd64"])
    assert "ENV SEA=calm\n" in written and "COPY score.py /srv/\n" in written
    assert annotations(here, first)[BASE_DIGEST] in written and orders["base"] not in written
    assert said(here, second, "provenance")["predicate"]["runDetails"]["builder"]["id"] == "urn:argosy:builder:docker"


def test_condas_packages_bring_their_python_along(
    house: Callable[[str], House], index: PackageIndex, channel: CondaChannel, tmp_path: Path
) -> None:
    here = house("one")
    base = make_base(tmp_path / "base", [layer({"bin/sh": b"#!"})])
    conda = here.manifest(lock=a_lock(index, channel.url))
    steps = DockerSteps(TEXT, "steps.txt")
    image = here.images.create("iris", conda, "", base, ["linux/amd64"], here.said.append, steps)
    layers = {each.title.partition(":")[0]: each.digest for each in here.images.contents(image)[0].layers}
    assert list(layers) == ["base", "step", "dependencies", "runtime", "code", "model"]
    assert "opt/argosy/bin/python" in here.names(layers["dependencies"])
    assert "srv/score.py" in here.names(layers["step"])
    assert {"SEA=calm", "CONDA_PREFIX=/opt/argosy"} <= set(here.config(image)["config"]["Env"])
    with pytest.raises(InvalidOption, match="it has no Python"):
        here.images.create("iris", here.manifest(), "", base, ["linux/amd64"], here.said.append, steps)

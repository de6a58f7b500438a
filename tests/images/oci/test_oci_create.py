"""Whole images: the order of their layers, the same digest anywhere, and what a new model costs."""

import json
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from argosy.errors import InvalidOption, StorageFailed
from argosy.images.oci.archive import archive
from argosy.images.oci.build import OciBuilder
from argosy.images.oci.create import OciImages
from argosy.images.oci.layout import OciLayout
from argosy.manifests.lock import resolve
from argosy.manifests.requirements import parse_requirements
from argosy.records import Image, Manifest, Reference
from argosy.settings import Settings
from images.oci.images import make_base, make_index
from manifests.package_index import PackageIndex
from store.shelf import Shelf

BOTH = ["linux/amd64", "linux/arm64"]
EPOCH = "1970-01-01T00:00:00Z"


class House:
    """One home with a builder in it."""

    def __init__(self, folder: Path, index: PackageIndex) -> None:
        folder.mkdir()
        self.shelf = Shelf(folder)
        self.layout = OciLayout(folder / "oci")
        self.lock = resolve(parse_requirements("alpha\n"), "3.12", (), index.url)
        self.index_url = index.url
        self.said: list[str] = []
        self.images = OciImages(
            self.layout,
            Settings(index_url=index.url),
            self.shelf.database,
            self.shelf.images,
            self.shelf.blobs.path,
            "0.1.0",
            folder / "logs",
        )

    def manifest(self, content: bytes = b"weights", name: str = "iris", **changes: object) -> Manifest:
        given = {"lock": self.lock, "environment": {"MODE": "fast"}, "secrets": {"TOKEN": "env:TOKEN"}, **changes}
        return self.shelf.manifest(name, content, **given)

    def build(self, manifest: Manifest, base: str, platforms: list[str] | None = None) -> Image:
        self.said.clear()
        return self.images.create(manifest.name, manifest, "", base, platforms or ["linux/amd64"], self.said.append)

    def config(self, image: Image, platform: str = "linux/amd64") -> dict[str, Any]:
        manifest = self.layout.json(image.oci[platform])
        return self.layout.json(manifest["config"]["digest"])

    def blobs(self) -> set[str]:
        return {path.name for path in (self.layout.root / "blobs" / "sha256").iterdir()}

    def names(self, digest: str) -> list[str]:
        with tarfile.open(self.layout.path(digest)) as tar:
            return [entry.name for entry in tar]


@pytest.fixture
def house(tmp_path: Path, index: PackageIndex) -> Iterator[Callable[[str], House]]:
    made: list[House] = []

    def make(name: str) -> House:
        made.append(House(tmp_path / name, index))
        return made[-1]

    yield make
    for each in made:
        each.shelf.close()


def test_layers_lie_in_the_order_of_how_often_they_change(house: Callable[[str], House], tmp_path: Path) -> None:
    here = house("one")
    image = here.build(here.manifest(), make_base(tmp_path / "base"))
    (content,) = here.images.contents(image)
    assert [layer.title.partition(":")[0] for layer in content.layers] == [
        "base", "dependencies", "runtime", "code", "model",
    ]  # fmt: skip
    files = [here.names(layer.digest) for layer in content.layers]
    assert "opt/argosy/lib/python3.12/site-packages/alpha/__init__.py" in files[1]
    assert {"opt/argosy/bin/python", "opt/argosy/runtime/argosy_serving/__main__.py"} <= set(files[2])
    assert {"opt/argosy/image/image.json", "opt/argosy/image/code/score.py"} <= set(files[3])
    assert "opt/argosy/image/models/iris/1/model.pkl" in files[4]


def test_the_config_says_how_it_runs_and_what_it_is(house: Callable[[str], House], tmp_path: Path) -> None:
    here = house("one")
    manifest = here.manifest(schema={"input": {}})
    image = here.build(manifest, make_base(tmp_path / "base"))
    config = here.config(image)
    assert (config["architecture"], config["os"], config["created"]) == ("amd64", "linux", EPOCH)
    run = config["config"]
    assert run["Entrypoint"] == ["/opt/argosy/bin/python", "-m", "argosy_serving"] and "Cmd" not in run
    assert (run["User"], run["ExposedPorts"], run["WorkingDir"]) == ("65532:65532", {"5001/tcp": {}}, "/tmp")
    variables = dict(item.split("=", 1) for item in run["Env"])
    assert variables["LANG"] == "C.UTF-8" and variables["MODE"] == "fast" and "TOKEN" not in variables
    assert variables["PATH"].startswith("/opt/argosy/bin:") and variables["PATH"].endswith(":/usr/local/bin:/usr/bin")
    assert run["Labels"]["io.argosy.manifest.digest"] == manifest.digest
    assert run["Labels"]["io.argosy.models"] == "iris:1"
    assert json.loads(run["Labels"]["io.argosy.schema"]) == {"input": {}}
    assert len(config["history"]) == len(config["rootfs"]["diff_ids"]) == 5
    assert image.layers[0].key == OciLayout(tmp_path / "base").tags()["base"].digest


def test_two_homes_give_one_digest(house: Callable[[str], House], tmp_path: Path) -> None:
    base = make_index(tmp_path / "base")
    one, other = house("one"), house("other")
    first = one.build(one.manifest(), base, BOTH)
    time.sleep(1.1)  # another second, in case a time gets in
    # The manifest is the third of another name there, and its image too.
    manifest = other.manifest()
    for _ in range(2):
        manifest = other.shelf.manifests.create("flowers", replace(manifest.recipe, runtime="python:3.11"))
        manifest = other.shelf.manifests.create("flowers", replace(manifest.recipe, runtime="python:3.12"))
    second = other.build(manifest, base, BOTH)
    assert set(first.oci) == set(BOTH)
    assert first.oci == second.oci
    assert one.layout.tags()[first.reference].digest == other.layout.tags()[second.reference].digest


def test_a_new_model_writes_one_layer(house: Callable[[str], House], tmp_path: Path) -> None:
    here = house("one")
    base = make_base(tmp_path / "base")
    first = here.build(here.manifest(), base)
    before = here.blobs()
    second = here.build(here.manifest(b"retrained"), base)
    new = here.blobs() - before
    (old,), (content,) = here.images.contents(first), here.images.contents(second)
    assert [layer.digest for layer in content.layers[:-1]] == [layer.digest for layer in old.layers[:-1]]
    written = {layer.digest[7:] for layer in content.layers} & new
    assert written == {content.layers[-1].digest[7:]}
    assert len(new) == 4, "the model's layer, config, manifest and index"
    assert [line for line in here.said if line.startswith(("Layer", "Installing"))] == [
        f"Layer model: iris:2: {content.layers[-1].size_bytes:,} bytes"
    ]


def test_new_code_leaves_a_large_model_alone(house: Callable[[str], House], tmp_path: Path) -> None:
    here = house("one")
    base = make_base(tmp_path / "base")
    manifest = here.manifest()
    (old,) = here.images.contents(here.build(manifest, base))
    files = [here.shelf.file("score.py", b"def run(body): return 2\n")]
    changed = here.shelf.manifests.create("iris", replace(manifest.recipe, files=files))
    (content,) = here.images.contents(here.build(changed, base))
    same = [a.digest == b.digest for a, b in zip(old.layers, content.layers, strict=True)]
    assert same == [True, True, True, False, True]


def test_building_again_changes_nothing(house: Callable[[str], House], tmp_path: Path) -> None:
    here = house("one")
    base = make_base(tmp_path / "base")
    manifest = here.manifest()
    first = here.build(manifest, base)
    before = here.blobs()
    assert here.build(manifest, base) == first
    assert here.blobs() == before


def test_a_platform_is_added_to_the_same_image(house: Callable[[str], House], tmp_path: Path) -> None:
    here = house("one")
    base = make_index(tmp_path / "base")
    manifest = here.manifest()
    first = here.build(manifest, base, ["linux/amd64"])
    both = here.build(manifest, base, ["linux/arm64"])
    assert both.reference == first.reference and set(both.oci) == set(BOTH)
    index = here.layout.json(here.layout.tags()["iris:1"].digest)
    assert [entry["platform"]["architecture"] for entry in index["manifests"]] == ["amd64", "arm64"]


def test_another_base_makes_another_image(house: Callable[[str], House], tmp_path: Path) -> None:
    here = house("one")
    manifest = here.manifest()
    first = here.build(manifest, make_base(tmp_path / "base"))
    second = here.build(manifest, make_base(tmp_path / "packed", packed=True))
    assert (first.reference, second.reference) == ("iris:1", "iris:2")
    assert first.digest != second.digest


def test_a_build_that_fails_leaves_neither_row_nor_tag(house: Callable[[str], House], tmp_path: Path) -> None:
    here = house("one")
    with pytest.raises(InvalidOption, match="linux/arm64"):
        here.build(here.manifest(), make_base(tmp_path / "base"), BOTH)
    assert here.shelf.images.page(10, None).items == [] and here.layout.tags() == {}


@pytest.mark.parametrize(("platforms", "problem"), [(["linux/mips"], "linux/mips"), ([], "name one or more")])
def test_unknown_platforms_are_refused(
    house: Callable[[str], House], tmp_path: Path, platforms: list[str], problem: str
) -> None:
    here = house("one")
    with pytest.raises(InvalidOption, match=problem):
        here.images.create("iris", here.manifest(), "", make_base(tmp_path / "base"), platforms, print)


def test_a_build_that_was_cut_short_goes_on_when_it_is_repeated(
    house: Callable[[str], House], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Power(BaseException):
        """Ends a build as a power cut does."""

    def cut(*_: object) -> None:
        raise Power

    here = house("one")
    base = make_base(tmp_path / "base")
    manifest = here.manifest()
    for part in ("_runtime", "_model", "publish"):
        with monkeypatch.context() as patch:
            patch.setattr(OciBuilder, part, cut)
            with pytest.raises(Power):
                here.build(manifest, base)
        assert here.layout.tags() == {}
    leftover = here.layout.work / "packages-of-a-crash"
    leftover.mkdir(parents=True)
    OciLayout(here.layout.root)
    assert not leftover.exists()
    image = here.build(manifest, base)
    assert not [line for line in here.said if line.startswith("Installing")], "that was done before"
    assert image.reference == "iris:1" and here.layout.tags()["iris:1"]


def test_credentials_of_the_index_reach_no_blob(house: Callable[[str], House], tmp_path: Path) -> None:
    here = house("one")
    secret = "s3cret-password"
    url = here.index_url.replace("://", f"://user:{secret}@")
    manifest = here.manifest(index_url=url)
    here.build(manifest, make_base(tmp_path / "base"))
    assert any(line.startswith("Installing") for line in here.said)
    for name in here.blobs():
        content = (here.layout.root / "blobs" / "sha256" / name).read_bytes()
        assert secret.encode() not in content and here.index_url.encode() not in content


def test_what_was_deleted_from_the_store_is_built_again(house: Callable[[str], House], tmp_path: Path) -> None:
    here = house("one")
    base = make_base(tmp_path / "base")
    manifest = here.manifest()
    first = here.build(manifest, base)
    before = here.blobs()
    for name in before:
        (here.layout.root / "blobs" / "sha256" / name).unlink()
    with pytest.raises(StorageFailed, match="gone"):
        here.layout.json(first.oci["linux/amd64"])
    assert here.images.contents(first) == []
    assert here.build(manifest, base).oci == first.oci
    assert here.blobs() == before


def test_an_archive_holds_one_platform_and_is_the_same_each_time(house: Callable[[str], House], tmp_path: Path) -> None:
    here = house("one")
    image = here.build(here.manifest(), make_index(tmp_path / "base"), BOTH)
    with pytest.raises(InvalidOption, match="linux/amd64, linux/arm64"):
        here.images.chosen(image, None)
    platform, digest = here.images.chosen(image, "linux/arm64")
    written = []
    for _ in range(2):
        size_bytes, chunks = archive(here.layout, image.reference, here.layout.descriptor(digest, platform))
        written.append(b"".join(chunks))
        assert len(written[-1]) == size_bytes
    assert written[0] == written[1]
    (tmp_path / "iris.tar").write_bytes(written[0])
    with tarfile.open(tmp_path / "iris.tar") as tar:
        inside = {entry.name for entry in tar}
    assert {"oci-layout", "index.json", "manifest.json", f"blobs/{digest.replace(':', '/')}"} <= inside
    amd = {layer.digest for layer in here.images.contents(image)[0].layers}
    arm = {layer.digest for layer in here.images.contents(image)[1].layers}
    assert not any(f"blobs/{gone.replace(':', '/')}" in inside for gone in amd - arm)


def test_a_process_image_has_no_archive(house: Callable[[str], House]) -> None:
    here = house("one")
    with pytest.raises(InvalidOption, match="--builder oci"):
        here.images.chosen(here.shelf.image(), None)


def test_a_forgotten_image_loses_its_tag(house: Callable[[str], House], tmp_path: Path) -> None:
    here = house("one")
    image = here.build(here.manifest(), make_base(tmp_path / "base"))
    assert list(here.layout.tags()) == [image.reference]
    here.images.forget(Reference.parse("image", image.reference))
    assert here.layout.tags() == {}

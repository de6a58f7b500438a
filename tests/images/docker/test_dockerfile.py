"""The Dockerfile of an image, from what its manifest and config say."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from argosy.errors import InvalidOption
from argosy.images.docker.dockerfile import context, dockerfile
from argosy.images.oci.layers import TITLE, tar_of
from argosy.images.oci.layout import BASE_DIGEST, BASE_NAME, CONFIG, MANIFEST, STEPS, TAR, Descriptor, OciLayout
from argosy.records import FileEntry

DIGEST = f"sha256:{'a' * 64}"


@pytest.fixture
def layout(tmp_path: Path) -> OciLayout:
    return OciLayout(tmp_path / "oci")


CONFIGURED = {
    "Env": ["MODE=plain"],
    "Labels": {"team": 'the "A" team'},
    "ExposedPorts": {"5001/tcp": {}},
    "User": "65532:65532",
    "WorkingDir": "/tmp",
    "StopSignal": "SIGTERM",
    "Entrypoint": ["python", "-m", "argosy_serving"],
}


def add(
    layout: OciLayout,
    annotations: dict[str, str],
    value: str = "plain",
    config: Any = None,
    titles: Sequence[str] = ("", "step: RUN true", "runtime: 0.1.0", "model: iris:1"),
) -> str:
    config = {"config": {**CONFIGURED, "Env": [f"MODE={value}"]} if config is None else config}
    layers = [
        {**Descriptor(TAR, *layout.add([title.encode()])).json(), **({"annotations": {TITLE: title}} if title else {})}
        for title in titles
    ]
    described = Descriptor(CONFIG, *layout.add_json(config)).json()
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}
    return layout.add_json({**manifest, "annotations": annotations})[0]


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("registry.local:5000/bases/debian:12", f"registry.local:5000/bases/debian@{DIGEST}"),
        ("python", f"python@{DIGEST}"),
        (f"docker.io/library/python:3.12@{DIGEST}", f"docker.io/library/python@{DIGEST}"),
    ],
)
def test_a_base_of_a_registry_is_named_by_its_digest(layout: OciLayout, name: str, base: str) -> None:
    said = dockerfile(layout, "iris:1", add(layout, {BASE_NAME: name, BASE_DIGEST: DIGEST}))
    assert said.splitlines()[1] == f"FROM {base}"


def test_steps_then_own_layers_then_configuration(layout: OciLayout) -> None:
    steps = "RUN true && \\\n  true\nCOPY data /srv/\n"
    said = dockerfile(layout, "iris:1", add(layout, {BASE_DIGEST: DIGEST, STEPS: steps}, '$A "b" \\')).splitlines()
    assert said[2:11] == [
        *("ARG BASE", "FROM ${BASE}", "USER 0", "WORKDIR /", 'SHELL ["/bin/sh", "-c"]'),
        *("RUN true &&   true", "COPY data /srv/"),
        *("ADD argosy-layers/01-runtime.tar /", "ADD argosy-layers/02-model.tar /"),
    ]
    assert 'ENV MODE="\\$A \\"b\\" \\\\"' in said and 'LABEL "team"="the \\"A\\" team"' in said
    assert said[-1] == 'ENTRYPOINT ["python", "-m", "argosy_serving"]'


def test_the_context_has_what_is_copied_and_added(layout: OciLayout, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"ahoy")
    files = [FileEntry("data/words.txt", "0" * 64, 4), FileEntry("score.py", "1" * 64, 4)]
    digest = add(layout, {BASE_DIGEST: DIGEST, STEPS: "COPY data /srv/\n"})
    made = b"".join(tar_of(context(layout, "iris:1", digest, files, lambda _: tmp_path / "blob")))
    with tarfile.open(fileobj=io.BytesIO(made)) as tar:
        names = {entry.name for entry in tar if entry.isfile()}
    assert names == {"Dockerfile", "data/words.txt", "argosy-layers/01-runtime.tar", "argosy-layers/02-model.tar"}


def test_a_value_of_several_lines_is_refused(layout: OciLayout) -> None:
    with pytest.raises(InvalidOption, match="MODE has several lines"):
        dockerfile(layout, "iris:1", add(layout, {}, "a\nb"))


def test_without_steps_the_base_stays_what_it_is(layout: OciLayout) -> None:
    assert "SHELL" not in dockerfile(layout, "iris:1", add(layout, {BASE_DIGEST: DIGEST}))


def test_an_image_from_elsewhere_may_say_little(layout: OciLayout) -> None:
    written = dockerfile(layout, "iris:1", add(layout, {}, config={"Cmd": ["serve", "--now"]}, titles=("",)))
    assert written.splitlines()[2:] == ["ARG BASE", "FROM ${BASE}", 'CMD ["serve", "--now"]']


@pytest.mark.parametrize(
    "config",
    [
        {"Env": ["A\nRUN touch /gone=b"]},
        {"Env": ["A B=c"]},
        {"User": "0\nRUN touch /gone"},
        {"WorkingDir": "/\nRUN touch /gone"},
        {"StopSignal": "9\rRUN touch /gone"},
        {"ExposedPorts": {"1\nRUN touch /gone": {}}},
        {"Labels": {"a\nRUN touch /gone": "b"}},
    ],
)
def test_nothing_in_an_image_becomes_an_instruction(layout: OciLayout, config: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match="Dockerfile cannot hold"):
        dockerfile(layout, "iris:1", add(layout, {}, config=config))
    with pytest.raises(InvalidOption, match="Dockerfile cannot hold"):
        dockerfile(layout, "iris:1", add(layout, {BASE_NAME: "python\nRUN touch /gone"}))


def test_titles_of_layers_lead_nowhere(layout: OciLayout) -> None:
    written = dockerfile(layout, "iris:1", add(layout, {}, titles=("mod\nel /../x: 1",)))
    assert "ADD argosy-layers/01-modelx.tar /\n" in written

"""The Dockerfile of an image, from what its manifest and config say."""

import io
import tarfile
from pathlib import Path

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


def add(layout: OciLayout, annotations: dict[str, str], value: str = "plain") -> str:
    config = {
        "config": {
            "Env": [f"MODE={value}"],
            "Labels": {"team": 'the "A" team'},
            "ExposedPorts": {"5001/tcp": {}},
            "User": "65532:65532",
            "WorkingDir": "/tmp",
            "StopSignal": "SIGTERM",
            "Entrypoint": ["python", "-m", "argosy_serving"],
        }
    }
    titles = ("", "step: RUN true", "runtime: 0.1.0", "model: iris:1")
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
    assert said[2:8] == [
        "ARG BASE", "FROM ${BASE}", "RUN true &&   true", "COPY data /srv/", "ADD argosy-layers/01-runtime.tar /",
        "ADD argosy-layers/02-model.tar /",
    ]  # fmt: skip
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

"""Steps on a real base in a real Docker and a real Podman."""

import gzip
import hashlib
from pathlib import Path

import pytest

from argosy.errors import InvalidFile, InvalidOption, NotFound, StepFailed
from argosy.images.docker.build import DockerSteps
from argosy.images.docker.build_engine import BuildEngine
from argosy.images.oci.archive import archive
from argosy.images.oci.layout import CONFIG, MANIFEST, TAR, Descriptor, OciLayout
from argosy.records import Reference
from images.docker.house import House, left_behind
from images.test_conda import a_lock
from manifests.conda_channel import CondaChannel
from manifests.package_index import PackageIndex

STEPS = """\
ARG WHO=sailor
ENV GREETING="ahoy $WHO"
LABEL org.example.team=harbour
EXPOSE 8080
COPY data /srv/data/
RUN echo "$GREETING" > /srv/greeting && cat /srv/data/words.txt && rm /etc/debian_version && id -u > /srv/who
RUN ["/bin/sh", "-c", "grep ahoy /srv/greeting && echo done >> /srv/greeting"]
"""


def test_steps_lie_between_the_base_and_argosys_own_layers(house: House, engine: str) -> None:
    image = house.build(STEPS)
    titles = [layer.title for layer in house.images.contents(image)[0].layers]
    assert [title.partition(":")[0] for title in titles] == [
        "base", "step", "step", "step", "dependencies", "runtime", "code", "model",
    ]  # fmt: skip
    assert house.layer(image, "step: COPY")["srv/data/words.txt"] == b"ahoy\n"
    first = house.layer(image, "step: RUN echo")
    assert first["srv/greeting"] == b"ahoy sailor\n" and first["srv/who"] == b"0\n"
    assert "etc/.wh.debian_version" in first
    assert house.layer(image, "step: RUN [")["srv/greeting"] == b"ahoy sailor\ndone\n"
    config = house.config(image)["config"]
    assert "GREETING=ahoy sailor" in config["Env"] and not any(word.startswith("WHO=") for word in config["Env"])
    assert config["Labels"]["org.example.team"] == "harbour"
    assert set(config["ExposedPorts"]) == {"8080/tcp", "5001/tcp"}
    assert config["User"] == "65532:65532" and config["Entrypoint"][-1] == "argosy_serving"
    history = [entry["created_by"] for entry in house.config(image)["history"]]
    assert 'ENV GREETING="ahoy $WHO"' in history and "COPY data /srv/data/" in history
    assert left_behind(engine) == []


def test_a_copy_leaves_the_folders_and_links_of_the_base_as_they_are(house: House) -> None:
    steps = (
        "COPY score.py /tmp/\nRUN stat -c '%a %U' /tmp > /srv/tmp\n"
        "COPY data/words.txt /bin/words\nRUN readlink /bin > /srv/bin; cat /usr/bin/words\n"
    )
    image = house.build(steps)
    assert house.layer(image, "step: RUN stat")["srv/tmp"] == b"1777 root\n"
    assert house.layer(image, "step: RUN readlink")["srv/bin"] == b"usr/bin\n"
    assert "ahoy" in house.said


def test_a_later_build_runs_only_what_changed(house: House) -> None:
    first = house.build(STEPS)
    again = house.build(STEPS)
    assert again.oci == first.oci and again.version == first.version
    assert sum("kept from an earlier build" in line for line in house.said) == 2
    changed = house.build(STEPS.replace("done", "over"))
    assert sum("kept from an earlier build" in line for line in house.said) == 1
    assert changed.oci != first.oci and changed.version == 2
    assert house.build(STEPS, fresh=True).version
    assert not any("kept from an earlier build" in line for line in house.said)


def test_the_log_is_streamed_and_kept_for_each_version(house: House) -> None:
    image = house.build("RUN echo one; echo two >&2\n")
    told = "\n".join(house.said)
    kept = house.images.log("iris", image.version)
    for line in ("Step 1/1, line 1: RUN echo one", "one", "two"):
        assert line in told and line in kept
    with pytest.raises(StepFailed):
        house.build("RUN echo three; false\n")
    assert "three" in house.images.log("iris", None) and house.images.log("iris", image.version) == kept
    house.images.forget(Reference("iris", image.version))
    with pytest.raises(NotFound):
        house.images.log("iris", image.version)


def test_a_failing_step_is_named_with_its_line_and_last_lines(house: House, engine: str) -> None:
    with pytest.raises(StepFailed) as caught:
        house.build("# first\nRUN echo fine\n\nRUN echo looking; \\\n  echo broken >&2; exit 7\n")
    assert "steps.txt, line 4: RUN echo looking;" in caught.value.message and "code 7" in caught.value.message
    assert caught.value.details["log"] == ["looking", "broken"]
    assert house.layout.tags() == {} and left_behind(engine) == []
    house.build("# first\nRUN echo fine\n\nRUN echo looking\n")
    assert "kept from an earlier build" in "\n".join(house.said), "the first step was not lost"


def test_a_step_that_changes_nothing_and_one_without_a_last_newline(house: House) -> None:
    image = house.build("RUN true\nRUN printf '10 %%\\r90 %%\\r\\nhalf a line'\nRUN touch /srv/after\n")
    log = house.images.log("iris", image.version)
    assert "  half a line" in log and "  90 %\n" in log and "10 %" not in log.replace("printf '10 %", "")
    assert "srv/after" in house.layer(image, "step: RUN touch")


def test_nothing_starts_when_a_file_is_missing_or_the_base_has_no_python(house: House, engine: str) -> None:
    with pytest.raises(InvalidFile, match=r"line 2: the manifest has no file 'nothing'"):
        house.build("RUN echo never\nCOPY nothing /srv/\n")
    assert not any("never" in line for line in house.said)
    with pytest.raises(InvalidOption, match="it has no Python"):
        house.build("RUN rm /usr/bin/python3*\n")
    assert house.layout.tags() == {} and left_behind(engine) == []


def test_what_a_killed_build_left_is_removed_by_the_next(
    house: House, engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The control plane is killed while a step runs: nobody cleans up."""
    house.build("RUN echo first\n")
    build = hashlib.sha256(f"{house.layout.root}\0iris".encode()).hexdigest()[:16]
    left = BuildEngine(engine)
    request.addfinalizer(left.close)
    manifest = house.images.contents(house.shelf.images.page(1, None, "iris").items[0])[0]
    descriptor = house.layout.descriptor(manifest.digest, "linux/amd64")
    left.load(archive(house.layout, f"localhost/argosy-build:{build}-0001", descriptor)[1])
    with left.container(f"{build}-0001", build, tmp_path):
        assert len(left_behind(engine)) == 2
        house.build("RUN echo second\n")
        assert left_behind(engine) == []


def test_condas_packages_need_no_python_of_the_base(
    house: House, engine: str, index: PackageIndex, channel: CondaChannel
) -> None:
    house.manifest = house.shelf.manifest("iris", b"weights", lock=a_lock(index, channel.url))
    image = house.build("RUN rm /usr/bin/python3* && echo gone > /srv/python\n")
    assert house.layer(image, "step: RUN")["srv/python"] == b"gone\n"
    assert "opt/argosy/bin/python" in house.layer(image, "dependencies:")
    assert "CONDA_PREFIX=/opt/argosy" in house.config(image)["config"]["Env"]
    assert left_behind(engine) == []


class _Enough(Exception):
    """Raised when the build shall end."""


def test_a_silent_step_ends_when_the_build_shall(house: House, engine: str) -> None:
    asked = []

    def go_on() -> None:
        asked.append(1)
        if any("begun" in line for line in house.said) and len(asked) > 3:
            raise _Enough

    wanted = DockerSteps("RUN echo begun; sleep 500\n", go_on=go_on)
    with pytest.raises(_Enough):
        house.images.create("iris", house.manifest, "", house.base, ["linux/amd64"], house.said.append, wanted)
    assert left_behind(engine) == []


def test_an_engine_that_is_missing_says_what_to_do(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(InvalidOption) as caught:
        house.build("RUN true\n")
    message = caught.value.message
    assert "asked: unix:///nowhere/docker.sock (not there)." in message and "--builder oci" in message
    assert house.build("ENV MODE=fast\n").oci, "no engine is needed without RUN"


def test_an_engine_of_another_platform_is_refused(house: House) -> None:
    with pytest.raises(InvalidOption, match=r"linux/arm64.*runs linux/amd64"):
        house.images.create(
            "iris", house.manifest, "", house.base, ["linux/arm64"], house.said.append, DockerSteps("RUN true\n")
        )


def test_a_base_with_compressed_layers_as_registries_have_them(house: House, engine: str, tmp_path: Path) -> None:
    plain = house.layout
    found = house.build("RUN true\n")
    base = house.images.contents(found)[0].layers[0].digest
    packed = OciLayout(tmp_path / "packed")
    with plain.open(base) as stream:
        layer = Descriptor(f"{TAR}+gzip", *packed.add([gzip.compress(stream.read(), 1, mtime=0)]))
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [base]}}
    described = Descriptor(CONFIG, *packed.add_json(config))
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described.json(), "layers": [layer.json()]}
    packed.tag("base", Descriptor(MANIFEST, *packed.add_json(manifest)))
    image = house.build("RUN echo packed > /srv/here\nRUN cat /srv/here\n", base=f"oci:{packed.root}:base")
    assert house.layer(image, "step: RUN echo")["srv/here"] == b"packed\n"
    assert left_behind(engine) == []

"""What a COPY makes of the folders and links that lie below it, without any engine."""

import io
import tarfile
from pathlib import Path

import pytest

from argosy.errors import InvalidFile
from argosy.images.docker.build import DockerBuilder, DockerSteps
from argosy.images.docker.build_engine import BuildEngine
from argosy.images.docker.log import BuildLog
from argosy.images.oci.base import Bases
from argosy.images.oci.layout import OciLayout
from argosy.images.oci.platforms import PLATFORMS
from argosy.manifests.uv import Index
from argosy.records import FileEntry
from images.oci.images import make_base

FILES = [FileEntry(path, "0" * 64, 4) for path in ("score.py", "data/a.txt", "data/deep/b.txt")]
# Path -> mode and owner of a folder, or where a link leads, or None for a file.
BASE: dict[str, tuple[int, int] | str | None] = {
    "tmp": (0o1777, 0),
    "srv": (0o750, 33),
    "usr/bin": (0o755, 0),
    "bin": "usr/bin",
    "etc/motd": None,
    "etc/link": "/srv/behind",
    "round": "round",
    "mine": "/opt/argosy",
}


def base_layer() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, what in BASE.items():
            entry = tarfile.TarInfo(path)
            if isinstance(what, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, what
            elif what is not None:
                entry.type, entry.mode, entry.uid = tarfile.DIRTYPE, *what
            tar.addfile(entry)
    return out.getvalue()


class Copying:
    """`copied` gives the entries of the last layer of a base with steps."""

    def __init__(self, folder: Path) -> None:
        self.layout, self.logs = OciLayout(folder / "oci"), folder / "logs"
        self.bases = Bases(self.layout, 1 << 30)
        self.reference = make_base(folder / "base", [base_layer()])
        self.blob = folder / "blob"
        self.blob.write_bytes(b"ahoy")

    def copied(self, *steps: str) -> dict[str, tarfile.TarInfo]:
        def never() -> BuildEngine:
            raise AssertionError("no engine is needed")

        platform = PLATFORMS["linux/amd64"]
        digest = self.bases.resolve(self.reference, [platform])
        base = self.bases.parts(self.reference, digest, platform)
        builder = DockerBuilder(self.layout, lambda _: self.blob, 1 << 30, never, {})
        with BuildLog(self.logs, "iris", lambda _: None) as log:
            wanted = DockerSteps("\n".join(steps), "steps.txt")
            derived = builder.derive(base, platform, wanted, FILES, Index(), "iris", log)
        layers = self.layout.json(derived)["layers"]
        with tarfile.open(self.layout.path(layers[-1]["digest"])) as tar:
            return {entry.name: entry for entry in tar}


@pytest.fixture
def copying(tmp_path: Path) -> Copying:
    return Copying(tmp_path)


@pytest.mark.parametrize(
    ("step", "names"),
    [
        ("COPY score.py /tmp/", {"tmp", "tmp/score.py"}),
        ("COPY score.py /tmp", {"tmp", "tmp/score.py"}),
        ("COPY score.py /bin/x", {"usr", "usr/bin", "usr/bin/x"}),
        ("COPY score.py /bin", {"usr", "usr/bin", "usr/bin/score.py"}),
        ("COPY data /bin/", {"usr", "usr/bin", "usr/bin/a.txt", "usr/bin/deep", "usr/bin/deep/b.txt"}),
        ("COPY score.py /etc/link", {"srv", "srv/behind"}),
        ("COPY score.py /etc/motd", {"etc", "etc/motd"}),
        ("COPY score.py /etc", {"etc", "etc/score.py"}),
        ("COPY score.py /new/name", {"new", "new/name"}),
        ("COPY score.py /", {"score.py"}),
    ],
)
def test_links_are_followed_and_folders_found(copying: Copying, step: str, names: set[str]) -> None:
    assert set(copying.copied(step)) == names


def test_folders_stay_what_they_are(copying: Copying) -> None:
    assert copying.copied("COPY score.py /tmp/")["tmp"].mode == 0o1777
    found = copying.copied("COPY data /srv/new/")
    assert (found["srv"].mode, found["srv"].uid) == (0o750, 33)
    assert (found["srv/new"].mode, found["srv/new"].uid) == (0o755, 0)


def test_a_copy_sees_what_earlier_ones_made(copying: Copying) -> None:
    assert set(copying.copied("COPY score.py /new/folder/", "COPY data/a.txt /new/folder")) == {
        "new", "new/folder", "new/folder/a.txt",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ("COPY score.py /etc/motd/x", "line 2: /etc/motd is a file"),
        ("COPY data /etc/motd", "line 2: /etc/motd is a file"),
        ("COPY score.py /round/x", "line 2: the links of /round"),
        ("COPY score.py /mine/x", "line 2: /opt/argosy/x is where it leads"),
    ],
)
def test_what_cannot_be_placed_is_told_with_its_line(copying: Copying, step: str, why: str) -> None:
    with pytest.raises(InvalidFile) as told:
        copying.copied("ENV A=b", step)
    assert why in told.value.message and "steps.txt" in told.value.message


def test_a_file_takes_no_folders_place(copying: Copying) -> None:
    with pytest.raises(InvalidFile, match=r"line 2: /srv/a\.txt is a folder"):
        copying.copied("COPY score.py /srv/a.txt/", "COPY data /srv/")

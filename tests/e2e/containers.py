"""A real base image, and Podman in folders of its own."""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from argosy.images.oci.layout import CONFIG, INDEX, MANIFEST, TAR, Descriptor, OciLayout

CACHE = Path("~/.cache/argosy-test/oci-base").expanduser()
_SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
_USELESS = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "var/log",
    "dev",
)
_CONFIGURATION = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
runtime = "runc"
"""


def base_image(debootstrap: str) -> tuple[str, str]:
    """(`oci:` reference, Python X.Y) of Debian with its Python, for amd64 and arm64; made once a machine, by root.

    The arm64 one is unpacked and never run: its files are real, its packages are not configured.
    """
    if not (CACHE / "index.json").exists():
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE.parent) as name:
            work = Path(name)
            layout = OciLayout(work / "layout")
            images = [_image(layout, _tree(debootstrap, work, arch), arch) for arch in ("amd64", "arm64")]
            index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [image.json() for image in images]}
            digest, size_bytes = layout.add_json(index)
            layout.tag("debian", Descriptor(INDEX, digest, size_bytes))
            shutil.rmtree(CACHE, ignore_errors=True)
            layout.root.rename(CACHE)
    manifest = OciLayout(CACHE).json(OciLayout(CACHE).tags()["debian"].digest)
    config = OciLayout(CACHE).json(OciLayout(CACHE).json(manifest["manifests"][0]["digest"])["config"]["digest"])
    return f"oci:{CACHE}:debian", config["config"]["Labels"]["python"]


def _tree(debootstrap: str, work: Path, arch: str) -> Path:
    tree = work / arch
    sources = next(path.read_text() for path in _SOURCES if path.exists())
    uri = re.findall(r"^(?:URIs:|deb) (?:\[.*\] )?(\S+)", sources, re.MULTILINE)[0]
    suite = re.findall(r'VERSION_CODENAME="?(\w+)', Path("/etc/os-release").read_text())[0]
    foreign = ["--foreign"] if arch == "arm64" else []
    packages = "python3-minimal,ca-certificates" if foreign else "python3,ca-certificates"
    command = [debootstrap, f"--arch={arch}", *foreign, "--variant=minbase", f"--include={packages}", suite, tree, uri]
    subprocess.run(command, check=True, capture_output=True)
    if foreign:
        for package in sorted((tree / "var/cache/apt/archives").glob("*.deb")):
            subprocess.run(["dpkg", "-x", package, tree], check=True)
    for folder in _USELESS:
        for path in (tree / folder).iterdir() if (tree / folder).is_dir() else ():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.rmtree(tree / "debootstrap", ignore_errors=True)
    return tree


def _image(layout: OciLayout, tree: Path, arch: str) -> Descriptor:
    python = min(path.name for path in (tree / "usr/bin").glob("python3.*") if path.name[8:].isdigit())
    tar = subprocess.Popen(
        ["tar", "--sort=name", "--numeric-owner", "-C", tree, "-cf", "-", "."], stdout=subprocess.PIPE
    )
    assert tar.stdout is not None
    stream = tar.stdout
    with tar:
        digest, size_bytes = layout.add(iter(lambda: stream.read(1 << 20), b""))
    assert tar.returncode == 0
    config = {
        "architecture": arch,
        "os": "linux",
        "config": {"Labels": {"python": python.removeprefix("python")}},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": Descriptor(CONFIG, *layout.add_json(config)).json(),
        "layers": [Descriptor(TAR, digest, size_bytes).json()],
    }
    return Descriptor(MANIFEST, *layout.add_json(manifest), f"linux/{arch}")


@dataclass(frozen=True)
class Podman:
    """`folder` holds all that it keeps."""

    program: str
    folder: Path

    def __call__(self, *words: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=300,
            check=check,
            input=stdin,
        )

    def command(self, *words: str) -> list[str]:
        return [self.program, "--root", str(self.folder / "root"), "--runroot", str(self.folder / "run"), *words]

    @property
    def environ(self) -> dict[str, str]:
        configuration = self.folder / "containers.conf"
        configuration.write_text(_CONFIGURATION)
        return {**os.environ, "CONTAINERS_CONF": str(configuration)}

    def clean(self) -> None:
        """Everything it keeps, mounts included."""
        self("rm", "--all", "--force", "--time", "0", check=False)
        self("rmi", "--all", "--force", check=False)

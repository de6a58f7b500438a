"""Small base images for tests: a layer or two with something that looks like a Python, as an OCI layout."""

import gzip
import io
import struct
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from argosy.images.oci.layout import CONFIG, INDEX, MANIFEST, TAR, Descriptor, OciLayout

AMD64, ARM64 = 62, 183
MACHINES = {"amd64": AMD64, "arm64": ARM64}


def elf(machine: int) -> bytes:
    """The header of an ELF file for that machine, and some more."""
    return b"\x7fELF\x02\x01\x01" + b"\0" * 9 + struct.pack("<HH", 2, machine) + b"\0" * 40


def layer(files: Mapping[str, bytes | str]) -> bytes:
    """A tar of executables by path; a str is a symbolic link to it, a path that ends with `/` a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path.rstrip("/"))
            entry.mode = 0o755
            if path.endswith("/"):
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            elif isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def usual(architecture: str = "amd64", python: str = "3.12") -> list[bytes]:
    """A base as they are: /usr/bin/python3 -> python3.12, /bin a link."""
    files: dict[str, bytes | str] = {
        "bin": "usr/bin",
        f"usr/bin/python{python}": elf(MACHINES[architecture]),
        "usr/bin/python3": f"python{python}",
        "lib/x86_64-linux-gnu/libc.so.6": b"glibc",
    }
    return [layer(files)]


def add_image(
    layout: OciLayout, layers: Sequence[bytes], architecture: str = "amd64", packed: bool = False
) -> Descriptor:
    diff_ids, descriptors = [], []
    for content in layers:
        plain, size_bytes = layout.add([content])
        diff_ids.append(plain)
        if packed:
            digest, size_bytes = layout.add([gzip.compress(content, mtime=0)])
            descriptors.append(Descriptor(f"{TAR}+gzip", digest, size_bytes))
        else:
            descriptors.append(Descriptor(TAR, plain, size_bytes))
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": ["PATH=/usr/local/bin:/usr/bin", "LANG=C.UTF-8"], "Entrypoint": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": "something"}],
    }
    digest, size_bytes = layout.add_json(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": Descriptor(CONFIG, digest, size_bytes).json(),
        "layers": [descriptor.json() for descriptor in descriptors],
    }
    digest, size_bytes = layout.add_json(manifest)
    return Descriptor(MANIFEST, digest, size_bytes, f"linux/{architecture}")


def make_base(
    folder: Path, layers: Sequence[bytes] | None = None, architecture: str = "amd64", packed: bool = False
) -> str:
    """An `oci:` reference to a base of one platform."""
    layout = OciLayout(folder)
    layout.tag("base", add_image(layout, usual(architecture) if layers is None else layers, architecture, packed))
    return f"oci:{folder}:base"


def make_index(folder: Path, python: str = "3.12") -> str:
    """An `oci:` reference to a base for both platforms."""
    layout = OciLayout(folder)
    images = [add_image(layout, usual(architecture, python), architecture) for architecture in MACHINES]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [image.json() for image in images]}
    digest, size_bytes = layout.add_json(index)
    layout.tag("base", Descriptor(INDEX, digest, size_bytes))
    return f"oci:{folder}:base"

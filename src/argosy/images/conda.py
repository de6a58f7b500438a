"""Conda packages of a lock, for the environments of this machine and for the layers of images."""

import json
import os
from pathlib import Path

from argosy.errors import InvalidDependencies
from argosy.images.oci.layers import Content, link_to
from argosy.images.pythons import Python
from argosy.manifests.channels import Channels
from argosy.manifests.conda_install import install_conda
from argosy.manifests.conda_lock import own_platform
from argosy.records import CondaPackage, Lock

# What rattler writes for itself, about this machine and this day.
_OF_THE_MACHINE = ("extracted_package_dir", "package_tarball_full_path", "link", "requested_spec", "requested_specs")
_LEFT_OUT = ("CACHEDIR.TAG", "conda-meta/history")
_PLACE = "conda-meta/.argosy-place"


def locked_packages(lock: Lock, platform: str) -> list[CondaPackage]:
    """Raises InvalidDependencies when the lock was not solved for this conda platform."""
    if found := lock.conda_packages(platform):
        return found
    have = ", ".join(each.platform for each in lock.conda)
    raise InvalidDependencies(
        f"The manifest's conda packages are locked for {have}, and {platform} is wanted. Its notes (`argosy manifest "
        f"show`) say why; make the manifest again when the channels have them for {platform}.",
        {"platform": platform},
    )


def conda_python(lock: Lock, path: Path) -> Python:
    """The Python of the packages, which will lie at `path`."""
    version = next(package.version for package in locked_packages(lock, own_platform()) if package.name == "python")
    return Python(path, version)


def conda_files(lock: Lock, platform: str, prefix: str, work: Path, channels: Channels) -> dict[str, Content]:
    """The packages as files of an image by their path, as they must be when they lie at `prefix` (opt/argosy).

    They last as long as the folder `work`. No bytecode: it would have to be younger than its sources, all of one time.
    """
    target = work / f"conda-{platform}"
    install_conda(locked_packages(lock, platform), platform, target, Path("/") / prefix, channels)
    found: dict[str, Content] = {}
    for folder, folders, names in os.walk(target):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in [*names, *(name for name in folders if (Path(folder) / name).is_symlink())]:
            path = Path(folder) / name
            inside = path.relative_to(target).as_posix()
            if inside not in _LEFT_OUT:
                found[f"{prefix}/{inside}"] = _content(path, inside)
    return found


def remember_place(folder: Path, final: Path) -> None:
    """Files of conda's packages hold the path where they lie: elsewhere they are of no use."""
    (folder / _PLACE).write_text(str(final), encoding="utf-8")


def built_elsewhere(folder: Path) -> bool:
    try:
        return (folder / _PLACE).read_text(encoding="utf-8") != str(folder)
    except FileNotFoundError:
        return False


def _content(path: Path, inside: str) -> Content:
    if path.is_symlink():
        return link_to(str(path.readlink()))
    if inside.startswith("conda-meta/"):
        record = json.loads(path.read_bytes())
        kept = {key: value for key, value in record.items() if key not in _OF_THE_MACHINE}
        return Content(json.dumps(kept, sort_keys=True, indent=1).encode())
    return Content(path, bool(path.stat().st_mode & 0o111))

"""An image as a folder, for the process runtime: `image.json`, `models/` and `code/` (docs/architecture.md).

Files are copied from the blob store, sharing blocks where the file system can (reflink), never by hard link: a model
that is opened for writing must not change the registered one. The folder appears whole, by rename.
"""

import fcntl
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from argosy.errors import StorageFailed
from argosy.images.plan import ModelContent
from argosy.records import FileEntry

# linux/fs.h: _IOW(0x94, 9, int). Only some file systems (btrfs, xfs, bcachefs) can.
_FICLONE = 0x40049409

BlobPath = Callable[[str], Path]


def image_folder(root: Path, plan_digest: str) -> Path:
    return root / plan_digest[:32]


def unpack(
    root: Path,
    description: dict[str, Any],
    code: Sequence[FileEntry],
    models: Sequence[ModelContent],
    blob_path: BlobPath,
) -> Path:
    """The image's folder below `root`, made when it is not there yet. `description` becomes `image.json`."""
    folder = image_folder(root, description["digest"])
    if (folder / "image.json").exists():
        return folder
    building = root / f".{folder.name}.{secrets.token_hex(4)}"
    try:
        building.mkdir(parents=True, mode=0o700)
        (building / "code").mkdir()
        (building / "models").mkdir()
        for entry in code:
            _place(blob_path(entry.sha256), building / "code" / entry.path)
        for model in models:
            for entry in model.files:
                _place(
                    blob_path(entry.sha256), building / "models" / model.pin.name / str(model.pin.version) / entry.path
                )
        with (building / "image.json").open("w", encoding="utf-8") as out:
            json.dump(description, out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        building.replace(folder)
    except OSError as problem:
        shutil.rmtree(building, ignore_errors=True)
        if (folder / "image.json").exists():
            return folder  # another thread made it meanwhile
        raise StorageFailed(
            f"The image could not be unpacked in {root}: {problem.strerror or problem}. Free some space and try again."
        ) from problem
    return folder


def sweep(root: Path, names: str = ".*") -> None:
    """Remove what a control plane that crashed left half made or half removed. Nobody else may be at work there."""
    for leftover in root.glob(names):
        shutil.rmtree(leftover, ignore_errors=True)


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not _reflink(source, target):
        shutil.copyfile(source, target)
    # Synced, since the folder's rename must not outlive its content in a power cut.
    with target.open("rb") as written:
        os.fsync(written.fileno())
    target.chmod(0o444)


def _reflink(source: Path, target: Path) -> bool:
    if sys.platform != "linux":
        return False
    with source.open("rb") as original, target.open("wb") as clone:
        try:
            fcntl.ioctl(clone.fileno(), _FICLONE, original.fileno())
        except OSError:
            return False
    return target.stat().st_size == source.stat().st_size

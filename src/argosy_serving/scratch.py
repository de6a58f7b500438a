"""The folder a replica runs in: writable, its own, with links to the script's files and the models' files."""

import os
import sys
from pathlib import Path

from argosy_serving.spec import Image, InvalidSpec


def prepare_scratch(scratch: Path, image: Image) -> None:
    """Make the folder and link into it. Raises InvalidSpec when it cannot be written."""
    try:
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        sources = [image.code, *(image.model_root / m.name / str(m.version) for m in image.models)]
        for source in sources:
            if not source.is_dir():
                raise InvalidSpec(f"The image {image.folder} has no folder {source.relative_to(image.folder)}.")
            for entry in sorted(source.iterdir()):
                if entry.name != "__pycache__":
                    _link(scratch / entry.name, entry)
    except OSError as problem:
        raise InvalidSpec(f"The scratch folder {scratch} cannot be prepared: {problem}.") from None


def _link(link: Path, target: Path) -> None:
    """Links of an earlier start are replaced; files the script wrote are left alone."""
    if link.is_symlink():
        link.unlink()
    if not link.exists():
        link.symlink_to(target)


def enter(scratch: Path, image: Image) -> None:
    """Change into the scratch folder, and tell scripts where the models lie unless the starter did."""
    start = str(Path.cwd())
    # `python -m` puts the folder it was started in first; nothing there belongs to this image.
    if sys.path and sys.path[0] in ("", start) and start not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        del sys.path[0]
    os.chdir(scratch)
    os.environ.setdefault("ARGOSY_MODEL_DIR", str(image.model_root))
    only = image.models[0] if len(image.models) == 1 else None
    azure = image.model_root / only.name / str(only.version) if only else image.model_root
    os.environ.setdefault("AZUREML_MODEL_DIR", str(azure))

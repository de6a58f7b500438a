"""`Model.get_model_path` of Azure ML v1: where a registered model lies in a replica."""

import os
from pathlib import Path
from typing import Any


class Model:
    """Only what scoring scripts use of it; a script that registers or downloads models needs the real package."""

    @staticmethod
    def get_model_path(model_name: str, version: "int | None" = None, _workspace: Any = None) -> str:
        """The model's file or folder, as it was registered; of several entries the folder that holds them.

        `version` None is the highest there is. Raises FileNotFoundError with the models there are.
        """
        root = Path(os.environ["ARGOSY_MODEL_DIR"])
        folder = root / model_name
        known = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []
        wanted = version if version is not None else (known[-1] if known else None)
        if folder.parent != root or wanted is None or int(wanted) not in known:
            there = sorted(f"{p.parent.name}:{p.name}" for p in root.glob("*/*"))
            asked = f"{model_name}:{version}" if version is not None else model_name
            raise FileNotFoundError(f"The image has no model {asked}; it has {', '.join(there) or 'none'}.")
        entries = list((folder / str(wanted)).iterdir())
        return str(entries[0] if len(entries) == 1 else folder / str(wanted))

"""What a service has on disk whatever its replicas are: live settings, and its folder of logs."""

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from argosy.errors import StorageFailed
from argosy.keys import write_private
from argosy.settings import Home


class ServiceFiles:
    def __init__(self, home: Home) -> None:
        self._home = home

    def settings(self, service: str) -> Path:
        return self._home.services / service / "settings.json"

    def write_settings(self, service: str, settings: Mapping[str, Any]) -> bytes:
        """What is in the file afterwards."""
        path = self.settings(service)
        content = json.dumps(settings).encode()
        try:
            # What stands there already needs no room on the disk: a control plane that comes back writes nothing.
            if not path.exists() or path.read_bytes() != content:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_private(path, content)
        except OSError as problem:
            raise StorageFailed(f"{path} cannot be written: {problem.strerror or problem}.") from problem
        return content

    def scratch(self, service: str, replica: str) -> Path:
        return self._home.services / service / "scratch" / replica

    def logs(self, service: str) -> Path:
        return self._home.logs / "services" / service

    def remove(self, service: str) -> None:
        shutil.rmtree(self._home.services / service, ignore_errors=True)
        shutil.rmtree(self.logs(service), ignore_errors=True)


def age(path: Path) -> float:
    """Of its last change, for sorting; 0 for one that has gone meanwhile."""
    with contextlib.suppress(OSError):
        return path.lstat().st_mtime
    return 0.0

"""Logs of replicas in containers: what each writes itself, and beside it what the control plane says of its end.

    <logs>/services/<service>/<id>/       mounted at /var/log/argosy: <id>.log
    <logs>/services/<service>/<id>.end    one line, which one that is killed cannot write itself; never mounted

What lies in the first is read as foreign.
"""

import json
import os
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from argosy.environments.container.engine import ContainerEngine
from argosy.environments.container.replica import ContainerReplica, place, remove_folder
from argosy.environments.service_files import ServiceFiles, age
from argosy.errors import EngineFailed
from argosy.keys import write_private

_KEEP = 20
_OUTPUT_LINES = 50


class ContainerLogs:
    def __init__(self, files: ServiceFiles) -> None:
        self._services = files

    def folder(self, service: str, replica: str) -> Path:
        """The one that is mounted."""
        return self._services.logs(service) / replica

    def files(self, service: str) -> list[Path]:
        """Older ones first."""
        names = [
            path
            for folder in self._folders(service)
            for path in (folder / f"{folder.name}.log", folder / f"{folder.name}.log.1", _end_of(folder))
        ]
        return sorted((path for path in names if path.is_file()), key=age)

    def note_end(self, replica: ContainerReplica, failure: str) -> None:
        """In a file of our own: the log is the container's, and closed to everybody but its user."""
        line = {
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": "error",
            "logger": "argosy",
            "message": failure,
            "request_id": None,
            "replica": replica.id,
            "service": replica.service,
            "revision": replica.revision,
        }
        try:
            write_private(_end_of(self.folder(replica.service, replica.id)), json.dumps(line).encode() + b"\n")
        except OSError:
            return

    def keep_output(self, replica: ContainerReplica, engine: ContainerEngine) -> None:
        """What one wrote that ended before it had a log: a base without the right Python, say."""
        log = self.folder(replica.service, replica.id) / f"{replica.id}.log"
        if os.path.lexists(log):
            return
        try:
            place(log, engine.output(replica.container, _OUTPUT_LINES).encode())
        except (EngineFailed, OSError):
            return

    def prune(self, service: str, living: Collection[str]) -> None:
        """All but those of the last replicas."""
        ended = [folder for folder in self._folders(service) if folder.name not in living]
        for folder in sorted(ended, key=age)[:-_KEEP]:
            self.remove(service, folder.name)

    def remove(self, service: str, replica: str) -> None:
        folder = self.folder(service, replica)
        remove_folder(folder)
        _end_of(folder).unlink(missing_ok=True)

    def remove_all(self, service: str) -> None:
        for folder in self._folders(service):
            self.remove(service, folder.name)

    def _folders(self, service: str) -> list[Path]:
        return [path for path in self._services.logs(service).glob("*") if path.is_dir()]


def _end_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.end")

"""All kinds of environments as one target: a replica is started where its launch says, and found wherever it is."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from argosy.environments.service_files import age
from argosy.environments.target import Launch, Load, Observed, Target


class Targets:
    """A service's name is its own over all environments, so every question goes to all kinds."""

    def __init__(self, process: Target, container: Target) -> None:
        self._process, self._container = process, container
        self._all: Sequence[Target] = (process, container)

    def start(self, launch: Launch) -> str:
        return (self._container if launch.container else self._process).start(launch)

    def observe(self, service: str) -> list[Observed]:
        return [one for target in self._all for one in target.observe(service)]

    def load(self, service: str) -> list[Load]:
        return [one for target in self._all for one in target.load(service)]

    def services(self) -> set[str]:
        return {name for target in self._all for name in target.services()}

    def ended(self) -> set[str]:
        return {name for target in self._all for name in target.ended()}

    def trouble(self, service: str) -> str:
        return next((text for target in self._all if (text := target.trouble(service))), "")

    def apply_settings(self, service: str, settings: Mapping[str, Any]) -> None:
        self._each(lambda target: target.apply_settings(service, settings))

    def drain(self, replica_id: str, timeout_s: float) -> None:
        self._each(lambda target: target.drain(replica_id, timeout_s))

    def kill(self, replica_id: str) -> None:
        self._each(lambda target: target.kill(replica_id))

    def forget(self, replica_id: str) -> None:
        self._each(lambda target: target.forget(replica_id))

    def remove_service(self, service: str) -> None:
        self._each(lambda target: target.remove_service(service))

    def log_files(self, service: str) -> list[Path]:
        return sorted((path for target in self._all for path in target.log_files(service)), key=age)

    def _each(self, do: Callable[[Target], None]) -> None:
        for target in self._all:
            do(target)

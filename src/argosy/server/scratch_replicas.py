"""Replicas for a moment, which belong to no service: where a launch says, as a process or in a container."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from argosy.environments.container.engines import Engines
from argosy.environments.container.images import EngineImages
from argosy.environments.container.replica import remove_folder
from argosy.environments.container.trial import ContainerTrial
from argosy.environments.target import Launch
from argosy.environments.trial import Limits, Trial, end_leftover
from argosy.errors import EngineFailed
from argosy.settings import Home


class ScratchReplicas:
    def __init__(self, home: Home, engines: Engines, engine_images: EngineImages) -> None:
        self._home, self._engines, self._engine_images = home, engines, engine_images

    def clean(self) -> None:
        """Remove the folders that earlier control planes have left. Called before anything starts."""
        with contextlib.suppress(FileNotFoundError):
            for folder in (self._home.run / "t").iterdir():
                remove_folder(folder)

    def trial(self, launch: Launch, limits: Limits, check: Callable[[], None], say: Callable[[str], None]) -> Trial:
        """It starts when it is entered. An image that its engine does not have yet is loaded before, which `say`
        tells."""
        if launch.container is None:
            return Trial(self._home.run / "t", launch, limits, check)
        engine = self._engines.get(launch.container.engine)
        tag = self._engine_images.ensure(engine, launch.container.image, say)
        return ContainerTrial(self._home, launch, limits, check, engine, tag)

    def end(self, leftover: Mapping[str, Any]) -> None:
        """What an earlier control plane has left, by the `identity` of its trial."""
        if "container" not in leftover:
            end_leftover(leftover)
            return
        # One that does not answer now is watched from here on, and the container swept away when it does.
        with contextlib.suppress(EngineFailed):
            self._engines.get(leftover["engine"]).remove(leftover["container"])

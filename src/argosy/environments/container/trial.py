"""One container for a moment: the image as it is, asked a few samples, and removed."""

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

from argosy.environments.container.engine import ContainerEngine, Order, State
from argosy.environments.container.replica import (
    HOME,
    SHARED,
    ContainerReplica,
    open_folder,
    orders,
    place,
    remove_folder,
    variables,
)
from argosy.environments.target import Launch
from argosy.environments.trial import Limits, Trial
from argosy.errors import EngineFailed
from argosy.images.oci.build import USER
from argosy.records import utc_now
from argosy.settings import Home

TRIAL = "io.argosy.trial"
_LOOK_EVERY_S = 0.5
_STOP_S = 10.0
_OUTPUT_LINES = 50


class ContainerTrial(Trial):
    """A Trial in `engine`, of the image that it has under `tag`. Raises EngineFailed when it cannot be started.

    What the engine does not let go at the end is swept away later, by the label of its `home`.
    """

    def __init__(
        self, home: Home, launch: Launch, limits: Limits, check: Callable[[], None], engine: ContainerEngine, tag: str
    ) -> None:
        super().__init__(home.run / "t", launch, limits, check)
        self._home, self._engine, self._tag = home.path, engine, tag
        self._shared = self._folder / "m"
        self.name = f"argosy-trial-{self._folder.name}"
        self._looked_s = 0.0
        self._state: State | None = State(running=True)

    def _start(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True)
        open_folder(self._shared)
        spec = orders(f"{self._launch.service}-trial", self._launch, utc_now(), 10_000_000)
        spec |= {"log": f"{SHARED}/log", "init_timeout_s": self._limits.init_timeout_s, "behind_gateway": False}
        place(self._shared / "spec.json", json.dumps(spec).encode())
        place(self._shared / "settings.json", json.dumps(self._settings()).encode())
        assert self._launch.container is not None
        order = Order(
            name=self.name,
            image=self._tag,
            command=[f"{SHARED}/spec.json"],
            user=USER,
            variables=variables(self._launch),
            labels={HOME: str(self._home), TRIAL: self._launch.container.name},
            mounts={self._shared: SHARED},
            cpu=self._launch.cpu,
            memory_bytes=self._launch.container.memory_bytes,
        )
        self._engine.held.add(self.name)
        try:
            self._engine.run(order)
        except EngineFailed:
            # It may have been made, for all we know.
            self._stop()
            self._remove()
            raise

    @property
    def identity(self) -> dict[str, Any] | None:
        return {"engine": self._engine.url, "container": self.name}

    @property
    def pid(self) -> int:
        state = self._engine.look(self.name)
        return state.pid if state else 0

    @property
    def _lives(self) -> bool:
        # The engine is asked now and then only: the admin socket is asked in between.
        if time.monotonic() - self._looked_s > _LOOK_EVERY_S:
            self._looked_s = time.monotonic()
            self._state = self._engine.look(self.name)
        return self._state is not None and self._state.running

    def _end(self) -> str:
        replica = ContainerReplica(
            id=self.name,
            service=self._launch.service,
            revision=0,
            folder=self._shared,
            created_at=0.0,
            started_at="",
            address="",
            init_timeout_s=self._limits.init_timeout_s,
            memory_bytes=self._launch.container.memory_bytes if self._launch.container else None,
        )
        return replica.why(self._state)[0] or "The container ended by itself."

    def log(self) -> list[str]:
        """What it wrote before it had a log, when it never had one."""
        if lines := super().log():
            return lines
        with contextlib.suppress(EngineFailed):
            return self._engine.output(self.name, _OUTPUT_LINES).splitlines()
        return []

    def _stop(self) -> None:
        with contextlib.suppress(EngineFailed):
            self._engine.signal(self.name, "SIGTERM")
            deadline = time.monotonic() + _STOP_S
            while (state := self._engine.look(self.name)) and state.running and time.monotonic() < deadline:
                time.sleep(0.1)
        with contextlib.suppress(EngineFailed):
            self._engine.remove(self.name)
        self._engine.held.discard(self.name)

    def _remove(self) -> None:
        remove_folder(self._folder)

"""The containers of one Docker or Podman of this machine."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from argosy.images.docker.engine import Engine


@dataclass(frozen=True)
class Order:
    """A container to run. `mounts` maps folders of the machine to folders in it; `cpu` in cores.

    `port` is published on 127.0.0.1, as a port that the engine chooses.
    """

    name: str
    image: str
    command: Sequence[str]
    user: str
    variables: Mapping[str, str]
    labels: Mapping[str, str]
    mounts: Mapping[Path, str]
    cpu: float | None = None
    memory_bytes: int | None = None
    network: str | None = None
    port: int | None = None


@dataclass(frozen=True)
class State:
    """`out_of_memory`: the kernel ended it for that. `pid` is its first process, as this machine numbers it."""

    running: bool
    exit_code: int = 0
    out_of_memory: bool = False
    problem: str = ""
    pid: int = 0


@dataclass(frozen=True)
class Found:
    """A container of ours: its name and labels."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


class ContainerEngine(Engine):
    """Methods raise as those of Engine. `held` are names of containers of ours that nobody sweeps away, since somebody
    waits for them."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.held: set[str] = set()

    def run(self, order: Order) -> None:
        """Create and start it; nothing is left of one that cannot be started."""
        with self._asking(f"start container {order.name}") as api:
            client = api(self.timeout_s)
            made = client.create_container(
                order.image,
                list(order.command),
                name=order.name,
                user=order.user,
                environment=dict(order.variables),
                labels=dict(order.labels),
                ports=[order.port] if order.port else None,
                host_config=self._limits(client, order),
                # A container gets what its order says, not what the machine's configuration of Docker has.
                use_config_proxy=False,
            )
            try:
                client.start(made["Id"])
            except BaseException:
                with contextlib.suppress(Exception):
                    client.remove_container(made["Id"], force=True)
                raise

    def look(self, name: str) -> State | None:
        """None when there is no such container."""
        from docker.errors import NotFound

        with self._asking(f"look at container {name}") as api:
            try:
                state = api(self.timeout_s).inspect_container(name)["State"]
            except NotFound:
                return None
        return State(
            bool(state.get("Running") or state.get("Paused") or state.get("Restarting")),
            int(state.get("ExitCode") or 0),
            bool(state.get("OOMKilled")),
            str(state.get("Error") or ""),
            int(state.get("Pid") or 0),
        )

    def signal(self, name: str, signal: str) -> None:
        """Nothing happens when it does not run."""
        from docker.errors import APIError

        with self._asking(f"send {signal} to container {name}") as api:
            try:
                api(self.timeout_s).kill(name, signal)
            except APIError as problem:
                if problem.status_code not in (404, 409) and "not running" not in str(problem.explanation):
                    raise

    def remove(self, name: str) -> None:
        """Ended or not, with what it wrote. Nothing happens when there is none."""
        from docker.errors import NotFound

        with self._asking(f"remove container {name}") as api, contextlib.suppress(NotFound):
            api(self.timeout_s).remove_container(name, v=True, force=True)

    def output(self, name: str, lines: int) -> str:
        """The last lines of what it wrote to stdout and stderr."""
        with self._asking(f"read the output of container {name}") as api:
            text: bytes = api(self.timeout_s).logs(name, tail=lines)
            return text.decode(errors="replace")

    def labelled(self, labels: Mapping[str, str]) -> list[Found]:
        """All containers with these labels, also those that have ended."""
        wanted = [f"{key}={value}" for key, value in labels.items()]
        with self._asking("list containers") as api:
            found = api(self.timeout_s).containers(all=True, filters={"label": wanted})
        return [Found(str(c["Names"][0]).lstrip("/"), c.get("Labels") or {}) for c in found if c.get("Names")]

    def _limits(self, client: Any, order: Order) -> Any:
        memory = {"mem_limit": order.memory_bytes, "memswap_limit": order.memory_bytes} if order.memory_bytes else {}
        cpu = {"nano_cpus": round(order.cpu * 1e9)} if order.cpu else {}
        return client.create_host_config(
            binds={str(path): {"bind": inside, "mode": "rw,Z"} for path, inside in order.mounts.items()},
            read_only=True,
            # Where it may write; libraries that compile at run time execute from there.
            tmpfs={"/tmp": "rw,exec,nosuid,nodev,mode=1777"},  # noqa: S108
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            # Starting again is the control plane's work.
            restart_policy={"Name": "no"},
            **({"network_mode": order.network} if order.network else {}),
            **({"port_bindings": {order.port: ("127.0.0.1",)}} if order.port else {}),
            **memory,
            **cpu,
        )

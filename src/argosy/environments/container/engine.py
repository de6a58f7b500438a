"""One Docker or Podman on this machine, through its API. All calls to the `docker` package are made here."""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from argosy.errors import EngineFailed, EngineUnreachable, Error, StorageFailed

_TIMEOUT_S = 20.0
# For what moves an image.
_LOAD_TIMEOUT_S = 600.0
_PING_TIMEOUT_S = 5.0
_FULL = ("no space left on device", "disk quota exceeded")


@dataclass(frozen=True)
class About:
    """`kind` is Docker or Podman, `store` the folder of its images, `cpu` and `memory` whether it can limit them."""

    kind: str
    version: str
    api: str
    store: str
    architecture: str
    rootless: bool
    cpu: bool
    memory: bool

    def __str__(self) -> str:
        return f"{self.kind} {self.version}{', rootless' if self.rootless else ''}"


@dataclass(frozen=True)
class Order:
    """A container to run. `mounts` maps folders of the machine to folders in it; `cpu` in cores."""

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


@dataclass(frozen=True)
class State:
    """`out_of_memory`: the kernel ended it for that."""

    running: bool
    exit_code: int = 0
    out_of_memory: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Found:
    """A container of ours: its name and labels."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


class Engine:
    """Thread-safe. Methods raise EngineUnreachable when it does not answer, else EngineFailed.

    `down` says since the last call why it does not answer; then other calls than `ping` give up at once. `held` are
    names of containers of ours that nobody sweeps away, since somebody waits for them.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.down: EngineUnreachable | None = None
        self.held: set[str] = set()
        self._guard = threading.Lock()
        self._clients: dict[float, Any] = {}

    def ping(self) -> None:
        with self._asking("answer", knock=True) as api:
            api(_PING_TIMEOUT_S).ping()

    def close(self) -> None:
        """Its connections; it can be used again."""
        with self._guard:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def about(self) -> About:
        with self._asking("tell about itself", knock=True) as api:
            client = api(_TIMEOUT_S)
            version, info = client.version(), client.info()
        parts = [str(part.get("Name", "")) for part in version.get("Components") or []]
        return About(
            "Podman" if any("podman" in part.lower() for part in parts) else "Docker",
            str(version.get("Version", "")),
            str(version.get("ApiVersion", "")),
            str(info.get("DockerRootDir", "")),
            str(info.get("Architecture", "")),
            any("rootless" in str(option) for option in info.get("SecurityOptions") or []),
            bool(info.get("CpuCfsQuota")),
            bool(info.get("MemoryLimit")),
        )

    # -- images --------------------------------------------------------------------------------------------------

    def has_image(self, tag: str) -> bool:
        from docker.errors import NotFound

        with self._asking(f"look for image {tag}") as api:
            try:
                api(_TIMEOUT_S).inspect_image(tag)
            except NotFound:
                return False
            return True

    def load(self, content: Iterator[bytes]) -> None:
        """An archive of an image, with the tag that is in it. StorageFailed when `content` cannot be read."""
        with self._asking("load the image") as api:
            for line in api(_LOAD_TIMEOUT_S).load_image(_readable(content)):
                if isinstance(line, dict) and (problem := line.get("error")):
                    raise self._refusal("load the image", str(problem))

    def tags(self, repository: str) -> list[str]:
        """The names of all images of a repository."""
        with self._asking("list images") as api:
            found = api(_TIMEOUT_S).images()
        names = [name for image in found for name in image.get("RepoTags") or []]
        return [name for name in names if name.startswith(f"{repository}:")]

    def remove_image(self, tag: str) -> None:
        """Nothing happens when there is none, or a container has it."""
        from docker.errors import APIError

        with self._asking(f"remove image {tag}") as api:
            try:
                api(_TIMEOUT_S).remove_image(tag)
            except APIError as problem:
                if problem.status_code not in (404, 409):
                    raise

    # -- containers ----------------------------------------------------------------------------------------------

    def run(self, order: Order) -> None:
        """Create and start it; nothing is left of one that cannot be started."""
        with self._asking(f"start container {order.name}") as api:
            client = api(_TIMEOUT_S)
            made = client.create_container(
                order.image,
                list(order.command),
                name=order.name,
                user=order.user,
                environment=dict(order.variables),
                labels=dict(order.labels),
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
                state = api(_TIMEOUT_S).inspect_container(name)["State"]
            except NotFound:
                return None
        return State(
            bool(state.get("Running") or state.get("Paused") or state.get("Restarting")),
            int(state.get("ExitCode") or 0),
            bool(state.get("OOMKilled")),
            str(state.get("Error") or ""),
        )

    def signal(self, name: str, signal: str) -> None:
        """Nothing happens when it does not run."""
        from docker.errors import APIError

        with self._asking(f"send {signal} to container {name}") as api:
            try:
                api(_TIMEOUT_S).kill(name, signal)
            except APIError as problem:
                if problem.status_code not in (404, 409) and "not running" not in str(problem.explanation):
                    raise

    def remove(self, name: str) -> None:
        """Ended or not, with what it wrote. Nothing happens when there is none."""
        from docker.errors import NotFound

        with self._asking(f"remove container {name}") as api, contextlib.suppress(NotFound):
            api(_TIMEOUT_S).remove_container(name, v=True, force=True)

    def output(self, name: str, lines: int) -> str:
        """The last lines of what it wrote to stdout and stderr."""
        with self._asking(f"read the output of container {name}") as api:
            text: bytes = api(_TIMEOUT_S).logs(name, tail=lines)
            return text.decode(errors="replace")

    def labelled(self, labels: Mapping[str, str]) -> list[Found]:
        """All containers with these labels, also those that have ended."""
        wanted = [f"{key}={value}" for key, value in labels.items()]
        with self._asking("list containers") as api:
            found = api(_TIMEOUT_S).containers(all=True, filters={"label": wanted})
        return [Found(str(c["Names"][0]).lstrip("/"), c.get("Labels") or {}) for c in found if c.get("Names")]

    # -- how -----------------------------------------------------------------------------------------------------

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
            **memory,
            **cpu,
        )

    @contextlib.contextmanager
    def _asking(self, what: str, knock: bool = False) -> Iterator[Any]:
        """Gives a function from a time-out to a client, and makes our errors of those of the block."""
        from docker.errors import APIError, DockerException
        from requests.exceptions import RequestException

        # Read once: another thread may clear it meanwhile.
        down = self.down
        if down is not None and not knock:
            raise down.with_traceback(None)
        try:
            yield self._client
            self.down = None
        except Error:
            raise
        except APIError as problem:
            self.down = None
            raise self._refusal(what, str(problem.explanation or problem)) from problem
        except (RequestException, DockerException, OSError) as problem:
            down = self.down = EngineUnreachable(self.url, _innermost(problem))
            raise down from problem

    def _client(self, timeout_s: float) -> Any:
        from docker import APIClient

        with self._guard:
            known = self._clients.get(timeout_s)
        if known is not None:
            return known
        # It asks the engine for its version: one that hangs must not make all others wait for the lock.
        made = APIClient(self.url, version="auto", timeout=timeout_s)  # type: ignore[arg-type]
        with self._guard:
            kept = self._clients.setdefault(timeout_s, made)
        if kept is not made:
            made.close()
        return kept

    def _refusal(self, what: str, problem: str) -> EngineFailed:
        problem = problem.strip().rstrip(".")
        if any(word in problem.lower() for word in _FULL):
            return EngineFailed(
                self.url,
                f"The container engine at {self.url} could not {what}: its image store is full ({problem}). Make room "
                "(`docker system df` or `podman system df` shows what takes it, `... image prune` removes what nothing "
                "uses), then repeat.",
            )
        return EngineFailed(self.url, f"The container engine at {self.url} could not {what}: {problem}.")


def _readable(content: Iterator[bytes]) -> Iterator[bytes]:
    """An error of this machine's disk is none of the engine's."""
    try:
        yield from content
    except OSError as problem:
        where = f" ({problem.filename})" if problem.filename else ""
        raise StorageFailed(f"The image cannot be read: {problem.strerror or problem}{where}.") from problem


def _innermost(problem: BaseException) -> str:
    """The system's own words are the shortest and clearest of a chain of wrappers."""
    cause: BaseException | None = problem
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        inner = cause.args[1] if len(cause.args) > 1 and isinstance(cause.args[1], BaseException) else None
        cause = inner or cause.__cause__ or cause.__context__
    if "timed out" in str(problem).lower():
        return "no answer in time"
    return type(problem).__name__

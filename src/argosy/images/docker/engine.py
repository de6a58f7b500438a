"""One Docker or Podman of this machine, through its API: what builds and environments both ask of it."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from argosy.errors import EngineFailed, EngineUnreachable, Error, StorageFailed

# For what moves an image.
LOAD_TIMEOUT_S = 600.0
_PING_TIMEOUT_S = 5.0
_FULL = ("no space left on device", "disk quota exceeded")


@dataclass(frozen=True)
class About:
    """`kind` is Docker or Podman, `store` the folder of its images, `cpu` and `memory` whether it can limit them.

    `architecture` is called as in images: amd64, arm64.
    """

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


class Engine:
    """Thread-safe. Methods raise EngineUnreachable when it does not answer, else EngineFailed.

    `down` says since the last call why it does not answer; then other calls than `ping` give up at once. `meanwhile` is
    what the error tells of the consequences, `timeout_s` how long other calls may take.
    """

    timeout_s = 20.0
    meanwhile = "Replicas that run go on, none can be started or ended."

    def __init__(self, url: str) -> None:
        self.url = url
        self.down: EngineUnreachable | None = None
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
            client = api(self.timeout_s)
            version, info = client.version(), client.info()
        parts = [str(part.get("Name", "")) for part in version.get("Components") or []]
        return About(
            "Podman" if any("podman" in part.lower() for part in parts) else "Docker",
            str(version.get("Version", "")),
            str(version.get("ApiVersion", "")),
            str(info.get("DockerRootDir", "")),
            str(version.get("Arch", "")),
            any("rootless" in str(option) for option in info.get("SecurityOptions") or []),
            bool(info.get("CpuCfsQuota")),
            bool(info.get("MemoryLimit")),
        )

    def has_image(self, tag: str) -> bool:
        from docker.errors import NotFound

        with self._asking(f"look for image {tag}") as api:
            try:
                api(self.timeout_s).inspect_image(tag)
            except NotFound:
                return False
            return True

    def load(self, content: Iterator[bytes]) -> None:
        """An archive of an image, with the tag that is in it. StorageFailed when `content` cannot be read."""
        with self._asking("load the image") as api:
            for line in api(LOAD_TIMEOUT_S).load_image(_readable(content)):
                if isinstance(line, dict) and (problem := line.get("error")):
                    raise self._refusal("load the image", str(problem))

    def tags(self, repository: str) -> list[str]:
        """The names of all images of a repository."""
        with self._asking("list images") as api:
            found = api(self.timeout_s).images()
        names = [name for image in found for name in image.get("RepoTags") or []]
        return [name for name in names if name.startswith(f"{repository}:")]

    def remove_image(self, tag: str) -> None:
        """Nothing happens when there is none, or a container has it."""
        from docker.errors import APIError

        with self._asking(f"remove image {tag}") as api:
            try:
                api(self.timeout_s).remove_image(tag)
            except APIError as problem:
                if problem.status_code not in (404, 409):
                    raise

    # -- how -----------------------------------------------------------------------------------------------------

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
            down = self.down = EngineUnreachable(self.url, _innermost(problem), self.meanwhile)
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

"""The nouns as frozen records: what the REST API answers, the SDK returns and the CLI prints.

Standard library only, since every `argosy` command imports this. Times are ISO 8601 in UTC, sizes are bytes, digests
are hex SHA-256. `encode` and `decode` turn records into JSON values and back.
"""

import dataclasses
import hashlib
import json
import re
import types
import typing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from argosy.errors import InvalidName, InvalidReference

T = TypeVar("T")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def check_name(noun: str, name: str) -> str:
    """The name itself when it is 1-63 of [a-z0-9.-] with an alphanumeric at both ends; else InvalidName."""
    if not _NAME.fullmatch(name):
        raise InvalidName(noun, name)
    return name


@dataclass(frozen=True)
class Reference:
    """`name`, `name:version` or `name@alias`; at most one of `version` and `alias` is set."""

    name: str
    version: int | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, noun: str, text: str) -> "Reference":
        name, mark, rest = re.fullmatch(r"([^:@]*)([:@]?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
        check_name(noun, name)
        if mark == ":":
            # 18 digits fit the 64 bits of a database's number.
            if not (rest.isascii() and rest.isdigit() and len(rest) <= 18 and int(rest) > 0):
                raise InvalidReference(noun, text)
            return cls(name, version=int(rest))
        if mark == "@":
            if not _NAME.fullmatch(rest):
                raise InvalidReference(noun, text)
            return cls(name, alias=rest)
        return cls(name)

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.name}:{self.version}"
        return f"{self.name}@{self.alias}" if self.alias else self.name


@dataclass(frozen=True)
class FileEntry:
    """One file of a model or manifest. `path` is relative, with `/`, never `..`."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Usage:
    """Who uses a version: references, newest first. Services as names, revisions as `service/number`."""

    manifests: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    services: list[str] = field(default_factory=list)
    revisions: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Inspection:
    """What an artefact says of itself, read statically and never loaded.

    `format`: pickle, joblib, onnx, mlflow, xgboost, lightgbm, catboost, torch, keras, hdf5, tensorflow, safetensors,
    npy, zip, unknown. `framework` is the distribution that is needed to load it (`scikit-learn`), `framework_version`
    the version that wrote it, where the file tells. `requirements` are `name` or `name==version`. `findings` are
    warnings, such as a pickle that calls `os.system`. `template` names the scoring script that can be generated for it
    (estimator, onnx, xgboost, lightgbm, mlflow), None when it needs one of its own; `artifact` is the path of the file
    or folder to load; `inputs` is the `input` part of a schema file, None when the artefact does not tell.
    """

    format: str = "unknown"
    framework: str | None = None
    framework_version: str | None = None
    requirements: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    template: str | None = None
    artifact: str = ""
    inputs: dict[str, Any] | None = None


@dataclass(frozen=True)
class Model:
    """One immutable version. `kind` is file or directory; a directory's files lie under `<name of the folder>/`."""

    name: str
    version: int
    digest: str
    kind: str
    files: list[FileEntry]
    size_bytes: int
    created_at: str
    description: str = ""
    source: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)
    inspection: Inspection = field(default_factory=Inspection)
    used_by: Usage = field(default_factory=Usage)

    @property
    def reference(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(frozen=True)
class ModelPin:
    """A model version as a manifest freezes it."""

    name: str
    version: int
    digest: str

    @property
    def reference(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(frozen=True)
class CondaPackage:
    """One file of a conda channel. No URL holds credentials. `noarch` is empty, `python` or `generic`."""

    name: str
    version: str
    build: str
    build_number: int
    subdir: str
    channel: str
    url: str
    sha256: str
    size_bytes: int
    noarch: str = ""
    depends: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CondaEnvironment:
    """What is installed on one conda platform (`linux-64`), sorted by name."""

    platform: str
    packages: list[CondaPackage]


@dataclass(frozen=True)
class Lock:
    """Dependencies resolved to exact versions. `text` is a requirements file with hashes, the same on any day.

    `python` is `3.12`; `packages` maps names to versions for display. `conda` is empty where the packages come from a
    package index alone; else it holds the Python and all that lies below `text`, from `channels` in their order.
    """

    python: str
    text: str
    packages: dict[str, str] = field(default_factory=dict)
    channels: list[str] = field(default_factory=list)
    conda: list[CondaEnvironment] = field(default_factory=list)

    def conda_packages(self, platform: str) -> list[CondaPackage]:
        """Those of one conda platform; empty when it was not locked for that."""
        return next((each.packages for each in self.conda if each.platform == platform), [])


@dataclass(frozen=True)
class Recipe:
    """What a manifest freezes; its canonical JSON is what the manifest's digest covers.

    `script` is the path of the scoring script within `files`. `schema` is a schema file's JSON or None. `samples` are
    request bodies (JSON values), each `{"input": ..., "output": ...}` with `output` absent when none is recorded.
    `secrets` maps variable names to references (`env:NAME`, `file:/path`), never to values. `serving` holds the
    serving limits and switches that were set (names as in ServiceSettings, and `string_answers`: json or raw). The
    names of the dependency files are what their user calls them, for messages.
    """

    models: list[ModelPin]
    runtime: str
    script: str
    files: list[FileEntry]
    lock: Lock
    conda: str | None = None
    conda_name: str = ""
    requirements: str | None = None
    requirements_name: str = ""
    inferred: list[str] = field(default_factory=list)
    index_url: str = ""
    extra_index_urls: list[str] = field(default_factory=list)
    schema: dict[str, Any] | None = None
    samples: list[dict[str, Any]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    serving: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    name: str
    version: int
    digest: str
    recipe: Recipe
    created_at: str
    description: str = ""
    notes: list[str] = field(default_factory=list)
    used_by: Usage = field(default_factory=Usage)

    @property
    def reference(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(frozen=True)
class Layer:
    """One layer of an image's plan, in the order base, dependencies, runtime, code, model.

    `key` identifies the content: the lock and Python for dependencies, the package digest for the runtime, the file
    list for code and models.
    """

    kind: str
    key: str
    title: str
    size_bytes: int | None = None


@dataclass(frozen=True)
class OciLayer:
    """A layer as it lies in an OCI image; `title` says what it holds, `base` for those of the base."""

    digest: str
    size_bytes: int
    title: str


@dataclass(frozen=True)
class OciImage:
    """An image on one platform: the digest of its manifest and of the base's, and the layers, lowest first."""

    platform: str
    digest: str
    base: str
    layers: list[OciLayer]


@dataclass(frozen=True)
class Image:
    """`digest` is the plan's; `environment_key` names the isolated environment that it shares with images of the same
    lock and Python; `oci` maps platforms to OCI digests, empty until built as OCI; `contents` tells their layers and
    `packages` what is installed when one version is shown.

    `source` is where an image was pulled or loaded from. Such a one has no `manifest` here and no `environment_key`;
    what is known of it is what it says of itself, which leaves out the digests of its models."""

    name: str
    version: int
    digest: str
    manifest: str
    manifest_digest: str
    models: list[ModelPin]
    layers: list[Layer]
    environment_key: str
    serving_runtime: str
    entrypoint: list[str]
    labels: dict[str, str]
    created_at: str
    state: str = "ready"
    description: str = ""
    oci: dict[str, str] = field(default_factory=dict)
    contents: list[OciImage] = field(default_factory=list)
    packages: dict[str, str] = field(default_factory=dict)
    source: str = ""
    used_by: Usage = field(default_factory=Usage)

    @property
    def reference(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(frozen=True)
class ImageUsage:
    """How to run an image where there is no Argosy: per tool its commands, and the file that it takes."""

    image: str
    commands: dict[str, list[str]]
    files: dict[str, str]


@dataclass(frozen=True)
class Environment:
    """Where services run. `kind` is process or container, both on this machine; `engine` is the socket of the latter's
    Docker or Podman. A service that names no environment goes to the one with `is_default`."""

    name: str
    kind: str
    created_at: str
    services: list[str] = field(default_factory=list)
    engine: str = ""
    is_default: bool = False


@dataclass(frozen=True)
class Check:
    """What was looked at. `state`: ok, warn (something may not work) or fail."""

    name: str
    state: str
    message: str


@dataclass(frozen=True)
class Freed:
    """What garbage collection deleted, or would. `what`: oci blob, environment, image folder, file."""

    what: str
    name: str
    size_bytes: int


@dataclass(frozen=True)
class RegistryLogin:
    """Who we are at a container registry `host[:port]`; the password is never part of an answer.

    `username` is empty when only the use of `plain_http` was agreed.
    """

    host: str
    username: str
    plain_http: bool
    created_at: str


@dataclass(frozen=True)
class ServiceSettings:
    """Limits and switches of a service. Hot ones reach running replicas at once; cold ones make a new revision.

    Cold: `max_concurrent_requests` (the slots of a replica), `environment`, `secrets`, `init_timeout_s`, `cpu`, a
    replica's share in cores (None: one per slot), and `memory_bytes`, what a replica in a container may use at most
    (None: no limit). `environment` and `secrets` are laid over the manifest's.

    With `autoscale_enabled` Argosy sets the number of replicas, from `min_replicas` to `max_replicas`, so that
    `target_utilization` percent of their slots are in use. It looks every `refresh_period_s`, and gives replicas up
    when they were not needed for `scale_down_delay_s`.
    """

    max_concurrent_requests: int = 1
    max_queued_requests: int = 10
    max_queue_wait_ms: int = 500
    request_timeout_ms: int = 60_000
    max_body_bytes: int = 20_000_000
    overload_status: int = 429
    public_docs: bool = False
    log_level: str = "info"
    cpu: float | None = None
    memory_bytes: int | None = None
    init_timeout_s: float = 600.0
    environment: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    autoscale_enabled: bool = False
    min_replicas: int = 1
    max_replicas: int = 10
    target_utilization: int = 70
    refresh_period_s: float = 1.0
    scale_down_delay_s: float = 60.0


@dataclass(frozen=True)
class ScalingDecision:
    """One decision of the autoscaler: from `before` to `replicas`, and why.

    `raw` is what the measure alone asks for; `utilization` and `target` are percent, the former None while no replica
    was ready, `window_s` is what it was taken over. `limit` names what came between: step, delay, min_replicas,
    max_replicas, share (of the machine), wake (a request came while there was no replica), or nothing.
    """

    at: str
    before: int
    replicas: int
    raw: int
    utilization: float | None
    target: float
    window_s: float
    limit: str
    reason: str


@dataclass(frozen=True)
class Replica:
    """One running instance. `state`: starting, ready, draining, failed, stopped."""

    id: str
    service: str
    revision: int
    state: str
    pid: int | None = None
    reason: str = ""
    started_at: str = ""
    restarts: int = 0


@dataclass(frozen=True)
class Revision:
    """One numbered image + cold settings of a service. `state`: starting, ready, live, draining, stopped, failed."""

    service: str
    number: int
    image: str
    image_digest: str
    state: str
    created_at: str
    settings: ServiceSettings = field(default_factory=ServiceSettings)
    reason: str = ""
    models: list[str] = field(default_factory=list)
    live_at: str | None = None


@dataclass(frozen=True)
class Service:
    """A stable URL and two keys in front of numbered revisions, with its whole lineage.

    `state`: deploying, healthy, degraded, failed, stopped. `etag` goes into `If-Match` of updates. `replicas_wanted` is
    what a user set, or what the autoscaler found; its last `decisions`, newest first, stand here when one is shown.
    """

    name: str
    environment: str
    state: str
    reason: str
    url: str
    scoring_url: str
    swagger_url: str
    docs_url: str
    replicas_wanted: int
    replicas_ready: int
    live_revision: int | None
    target_revision: int | None
    settings: ServiceSettings
    created_at: str
    updated_at: str
    etag: str
    replicas: list[Replica] = field(default_factory=list)
    revision: Revision | None = None
    image: str | None = None
    manifest: str | None = None
    models: list[str] = field(default_factory=list)
    description: str = ""
    decisions: list[ScalingDecision] = field(default_factory=list)
    last_failure: str = ""


@dataclass(frozen=True)
class ServiceKeys:
    primary: str
    secondary: str


@dataclass(frozen=True)
class ServiceUsage:
    """How to call a service; `sample` is the stored sample request, None when there is none."""

    name: str
    scoring_url: str
    swagger_url: str
    docs_url: str
    headers: dict[str, str]
    sample: Any
    curl: str
    cli: str
    keys_command: str
    logs_command: str
    ca_file: str | None = None


@dataclass(frozen=True)
class Operation:
    """A durable long job. `state`: pending, running, succeeded, failed, cancelled.

    `progress` is 0..1 or None when unknown; `message` says what happens now; `messages` are all of them so far,
    oldest first; `result` is what was made, such as `{"service": "iris"}`; `error` is an error's `error` object.
    """

    id: str
    kind: str
    subject: str
    state: str
    step: str
    created_at: str
    updated_at: str
    progress: float | None = None
    message: str = ""
    messages: list[str] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None

    @property
    def done(self) -> bool:
        return self.state in ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Status:
    """The control plane and its gateway."""

    version: str
    pid: int
    url: str
    home: str
    started_at: str
    gateway: dict[str, Any]
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list; `next` is the cursor of the following page, None on the last one."""

    items: list[T]
    next: str | None = None


def encode(record: Any) -> Any:
    """A JSON value of a record, or of a list or dict that holds records."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {f.name: encode(getattr(record, f.name)) for f in dataclasses.fields(record)}
    if isinstance(record, dict):
        return {key: encode(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [encode(value) for value in record]
    return record


def digest(value: Any) -> str:
    """SHA-256 in hex of the canonical JSON (sorted keys, no spaces, UTF-8) of a record or JSON value."""
    text = json.dumps(encode(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def decode(cls: type[T], data: Any) -> T:
    """The record of a JSON value. Unknown keys are passed over, so that an older client reads a newer server."""
    hints = typing.get_type_hints(cls)
    names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return cls(**{key: _decode(hints[key], value) for key, value in data.items() if key in names})


def _decode(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        inner = [a for a in typing.get_args(hint) if a is not type(None)]
        return _decode(inner[0], value) if len(inner) == 1 else value
    if origin is list:
        return [_decode(typing.get_args(hint)[0], item) for item in value]
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return decode(hint, value)
    return value

"""Bodies of requests, validated by FastAPI: a wrong one is a 422 that names the field."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from argosy.records import FileEntry

Name = Annotated[str, StringConstraints(min_length=1, max_length=63)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class ModelBody(_Body):
    name: Name
    kind: Literal["file", "directory"] = "file"
    files: list[FileEntry] = Field(default_factory=list, max_length=100_000)
    url: str | None = None
    source: str = ""
    description: str = Field(default="", max_length=10_000)
    tags: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    unpack: bool = False


class ModelChanges(_Body):
    description: str | None = Field(default=None, max_length=10_000)
    tags: dict[str, str | None] = Field(default_factory=dict)
    metrics: dict[str, float | None] = Field(default_factory=dict)


class AliasBody(_Body):
    version: int = Field(ge=1)


class ManifestBody(_Body):
    """Every key but `name` may be left out; `from` gives what is."""

    name: Name | None = None
    models: list[str] | None = None
    runtime: str | None = None
    script: str | None = None
    files: list[FileEntry] | None = Field(default=None, max_length=10_000)
    conda: str | None = Field(default=None, max_length=1_000_000)
    conda_name: str | None = Field(default=None, max_length=200)
    with_conda: bool | None = None
    requirements: str | None = Field(default=None, max_length=1_000_000)
    requirements_name: str | None = Field(default=None, max_length=200)
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    samples: list[dict[str, Any]] | None = None
    environment: dict[str, str] | None = None
    secrets: dict[str, str] | None = None
    serving: dict[str, Any] | None = None
    description: str = Field(default="", max_length=10_000)
    from_: str | None = Field(default=None, alias="from")

    def stored(self) -> dict[str, Any]:
        """As an operation keeps it."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")


class ImageBody(_Body):
    name: Name
    manifest: str | ManifestBody
    description: str = Field(default="", max_length=10_000)
    builder: Literal["oci", "docker"] | None = None
    docker_steps: str | None = Field(default=None, max_length=100_000)
    docker_steps_name: str = Field(default="--docker-steps", max_length=4_000)
    fresh: bool = False
    base: str | None = Field(default=None, min_length=1, max_length=4_000)
    platforms: list[str] = Field(default_factory=list, max_length=10)


class PushBody(_Body):
    destination: str | None = Field(default=None, min_length=1, max_length=1_000)
    tags: list[str] = Field(default_factory=list, max_length=20)


class PullBody(_Body):
    reference: str = Field(min_length=1, max_length=1_000)
    name: Name | None = None
    platforms: list[str] = Field(default_factory=list, max_length=10)


class LoadBody(_Body):
    """`sha256` is the archive, uploaded as a blob; `file` what its owner calls it."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    file: str = Field(default="", max_length=1_000)
    name: Name | None = None
    tag: str = Field(default="", max_length=200)


class CollectBody(_Body):
    dry_run: bool = False


class ImageRunBody(_Body):
    sample: dict[str, Any] | None = None
    environment: Name | None = None


class RegistryBody(_Body):
    username: str = Field(default="", max_length=255)
    # Secret, so that it is not printed where the body is.
    password: SecretStr = Field(default=SecretStr(""), max_length=65_536)
    plain_http: bool = False


class EnvironmentBody(_Body):
    name: Name
    kind: str = "process"
    engine: str = Field(default="", max_length=1_000)


class ServiceBody(_Body):
    name: Name
    environment: str | None = None
    image: str | None = None
    recipe: ManifestBody | None = None
    base: str | None = Field(default=None, min_length=1, max_length=4_000)
    replicas: int | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    description: str = Field(default="", max_length=10_000)


class ServiceChanges(_Body):
    image: str | None = None
    recipe: ManifestBody | None = None
    base: str | None = Field(default=None, min_length=1, max_length=4_000)
    models: list[str] | None = None
    replicas: int | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    description: str | None = Field(default=None, max_length=10_000)


class TuningBody(_Body):
    body: str | None = Field(default=None, max_length=20_000_000)
    rate: float | None = Field(default=None, gt=0, le=1e9)


class RollbackBody(_Body):
    to: int | None = Field(default=None, ge=1, le=2**31)


class ShutdownBody(_Body):
    services: bool = True

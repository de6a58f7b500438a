"""Every error a user can meet, in one tree.

Error                               base: code, HTTP status, message, details
├── UserError                  400  the request is wrong; the CLI exits with 1
│   ├── InvalidName                 a name outside [a-z0-9.-]
│   ├── InvalidReference            not name, name:version or name@alias
│   ├── InvalidOption               an option or field whose value cannot be used
│   ├── InvalidFile                 a path or archive member that is missing, unsafe or unreadable
│   ├── InvalidScript               a scoring script that cannot work
│   ├── InvalidSchema               a schema file that cannot be read
│   ├── InvalidDependencies         a conda or requirements file that cannot be read or resolved
│   ├── StepFailed                  a RUN of --docker-steps that ended with an error
│   ├── FetchFailed                 a URL, or the way there, did not deliver
│   ├── RegistryRefused             a container registry does not let us, or has no such image
│   ├── PythonNotFound              no interpreter for the manifest's Python
│   ├── Unauthorized           401  no token, or a wrong one
│   ├── NotFound               404  nothing of that name
│   ├── NotTuned               404  a service without load curves
│   ├── Conflict               409  exists already, or another operation runs
│   ├── InUse                  409  something else still needs it
│   ├── PreconditionFailed     412  changed since it was read
│   └── TooLarge               413  over a size limit
└── SystemFailure              500  the request was right, the machine was not; the CLI exits with 2
    ├── EnvironmentFailed           an environment could not be built
    ├── EngineFailed                a container engine does not do what it is told
    │   └── EngineUnreachable  503  it does not answer at all
    ├── DeployFailed                replicas did not become ready
    ├── GatewayFailed               HAProxy is missing or does not obey
    ├── StorageFailed               disk full, read-only or corrupt
    ├── PortInUse                   somebody else listens there
    ├── RegistryFailed         502  a container registry did not answer, or not what was asked for
    ├── ConnectionLost         503  the other side went away before it answered
    ├── TimedOut               504  something waited for did not happen in time
    └── NotRunning             503  the control plane does not answer

Each class writes its own sentence: what happened, which value, what to do next. Foreign errors are translated where
they are met, never further up.
"""

from collections.abc import Mapping, Sequence
from typing import Any


class Error(Exception):
    """Base of all errors that are shown to users. `details` is JSON that programs may read."""

    code = "error"
    status = 500
    exit_code = 2

    def __init__(self, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = dict(details or {})

    def body(self) -> dict[str, Any]:
        """The one JSON shape of errors, in the control plane and in the data plane."""
        return {"error": {"code": self.code, "message": self.message, "details": self.details}}


class UserError(Error):
    code, status, exit_code = "invalid_request", 400, 1


class InvalidName(UserError):
    code = "invalid_name"

    def __init__(self, noun: str, name: str) -> None:
        super().__init__(
            f"{name!r} is no valid {noun} name. Use 1 to 63 of a-z, 0-9, '.' and '-', "
            "with a letter or digit at both ends.",
            {"name": name},
        )


class InvalidReference(UserError):
    code = "invalid_reference"

    def __init__(self, noun: str, reference: str) -> None:
        super().__init__(
            f"{reference!r} is no {noun} reference. Write NAME, NAME:VERSION (a whole number from 1) or NAME@ALIAS.",
            {"reference": reference},
        )


class InvalidOption(UserError):
    """`option` as the user typed it (`--replicas`) or the field's name in a request."""

    code = "invalid_option"

    def __init__(self, option: str, value: object, wanted: str) -> None:
        super().__init__(f"{option} cannot be {value!r}: {wanted}", {"option": option})


class InvalidFile(UserError):
    code = "invalid_file"

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"{path}: {problem}", {"path": str(path)})


class InvalidScript(UserError):
    code = "invalid_script"

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"{path}: {problem}", {"path": str(path)})


class InvalidSchema(UserError):
    code = "invalid_schema"

    def __init__(self, pointer: str, problem: str) -> None:
        super().__init__(f"The schema cannot be used: at {pointer or '/'}: {problem}", {"pointer": pointer})


class InvalidDependencies(UserError):
    code = "invalid_dependencies"


class StepFailed(UserError):
    """`log` holds the last lines that the step wrote, oldest first."""

    code = "step_failed"

    def __init__(self, where: str, line: int, step: str, exit_code: int, log: Sequence[str]) -> None:
        super().__init__(
            f"{where}, line {line}: {step} ended with exit code {exit_code}. Nothing was made; the steps before it are "
            "kept, so the next build begins here.",
            {"line": line, "exit_code": exit_code, "log": list(log)},
        )


class FetchFailed(UserError):
    """`url` is as it may be shown: without credentials and query."""

    code = "fetch_failed"

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"{url} could not be fetched: {problem}", {"url": url})


class RegistryRefused(UserError):
    """`host` is the registry; `message` says what was asked of it."""

    code = "registry_refused"

    def __init__(self, host: str, message: str) -> None:
        super().__init__(message, {"registry": host})


class PythonNotFound(UserError):
    code = "python_not_found"

    def __init__(self, version: str, found: Sequence[str]) -> None:
        have = ", ".join(found) or "none"
        super().__init__(
            f"This machine has no Python {version} (found: {have}). Install it (`uv python install {version}`, "
            f"`pyenv install {version}` or your system's packages) or choose another with -r python:X.Y.",
            {"version": version, "found": list(found)},
        )


class Unauthorized(UserError):
    code, status = "unauthorized", 401

    def __init__(self) -> None:
        super().__init__(
            "The control plane does not accept this token. Use the one in $ARGOSY_HOME/token "
            "(or set ARGOSY_TOKEN), as `Authorization: Bearer <token>`."
        )


class NotFound(UserError):
    code, status = "not_found", 404

    def __init__(self, noun: str, name: str, hint: str = "") -> None:
        """`hint` says what there is instead, or how to find it; by default the `list` command."""
        self.code = f"{noun}_not_found"
        command = {"environment": "env"}.get(noun, noun)
        if not hint and noun != "operation":
            hint = f"`argosy {command} list` shows what there is."
        super().__init__(f"There is no {noun} {name!r}. {hint}".rstrip(), {"noun": noun, "name": name})


class NotTuned(UserError):
    code, status = "tuning_not_found", 404

    def __init__(self, service: str) -> None:
        super().__init__(f"Service {service} has not been tuned yet. `argosy service tune {service}` does it.")


class Conflict(UserError):
    code, status = "conflict", 409


class InUse(UserError):
    code, status = "in_use", 409

    def __init__(self, noun: str, name: str, users: Sequence[str]) -> None:
        shown = ", ".join(users[:8]) + (f" and {len(users) - 8} more" if len(users) > 8 else "")
        super().__init__(f"{noun} {name} is used by {shown}. Delete those first.", {"used_by": list(users)})


class PreconditionFailed(UserError):
    code, status = "precondition_failed", 412

    def __init__(self, noun: str, name: str) -> None:
        super().__init__(f"{noun} {name} has changed since you read it. Read it again, then repeat the update.")


class TooLarge(UserError):
    code, status = "too_large", 413

    def __init__(self, what: str, limit_bytes: int) -> None:
        super().__init__(f"{what} is larger than the limit of {limit_bytes:,} bytes.", {"limit_bytes": limit_bytes})


class SystemFailure(Error):
    code, status, exit_code = "system_failure", 500, 2


class EnvironmentFailed(SystemFailure):
    code = "environment_failed"


class EngineFailed(SystemFailure):
    """`engine` is its socket; `message` says what was asked of it and what to do."""

    code = "engine_failed"

    def __init__(self, engine: str, message: str) -> None:
        super().__init__(message, {"engine": engine})


class EngineUnreachable(EngineFailed):
    """`meanwhile` says what goes on without it, and what does not."""

    code, status = "engine_unreachable", 503

    def __init__(self, engine: str, problem: str, meanwhile: str) -> None:
        super().__init__(
            engine,
            f"The container engine at {engine} does not answer ({problem}). {meanwhile} Start it again: `systemctl "
            f"start docker`, or for Podman `podman system service --time=0 {engine}`.",
        )


class DeployFailed(SystemFailure):
    """Replicas did not become ready. `log` holds their last lines, oldest first."""

    code = "deploy_failed"

    def __init__(self, reason: str, log: Sequence[str] = ()) -> None:
        super().__init__(reason, {"log": list(log)})


class GatewayFailed(SystemFailure):
    code = "gateway_failed"


class StorageFailed(SystemFailure):
    code = "storage_failed"


class PortInUse(SystemFailure):
    code = "port_in_use"

    def __init__(self, host: str, port: int, option: str) -> None:
        super().__init__(
            f"Port {port} on {host} is in use by another program. Choose another with {option} N, or 0 for a free one.",
            {"port": port},
        )


class RegistryFailed(SystemFailure):
    """`host` is the registry; `message` says what was asked of it."""

    code, status = "registry_failed", 502

    def __init__(self, host: str, message: str) -> None:
        super().__init__(message, {"registry": host})


class ConnectionLost(SystemFailure):
    code, status = "connection_lost", 503

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(
            f"The connection to {where} broke before the answer came ({problem}). Look at the state before you repeat.",
            {"url": where},
        )


class TimedOut(SystemFailure):
    code, status = "timed_out", 504

    def __init__(self, what: str, timeout_s: float) -> None:
        super().__init__(f"{what} took longer than {timeout_s:g} s. It may still finish.", {"timeout_s": timeout_s})


class NotRunning(SystemFailure):
    code, status = "not_running", 503

    def __init__(self, where: str) -> None:
        super().__init__(f"No control plane answers at {where}. Start it with `argosy up`.", {"url": where})


def error_from_body(status: int, body: Mapping[str, Any]) -> Error:
    """The error a server answered with, as the class that a caller can catch by status and code."""
    inner = body.get("error")
    fields = inner if isinstance(inner, Mapping) else {}
    error = (UserError if 400 <= status < 500 else SystemFailure)(
        str(fields.get("message") or f"The server answered with HTTP {status}."), fields.get("details") or {}
    )
    error.code, error.status = str(fields.get("code") or "error"), status
    return error

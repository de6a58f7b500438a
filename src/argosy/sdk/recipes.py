"""What a manifest is made of: read from local files, checked, and turned into the API's ManifestRequest.

`plan` does everything that can fail on this machine before `send` uploads or registers anything.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from argosy.errors import InvalidFile, InvalidOption, NotFound, UserError
from argosy.records import FileEntry, Model, Reference, check_name, encode
from argosy.sdk import files, models
from argosy.sdk.files import LocalFile, Progress
from argosy.sdk.operations import OnMessage
from argosy.sdk.wire import Flow, Request, call, path_of

PathLike = str | os.PathLike[str]


class RecipeOptions(TypedDict, total=False):
    """The options that make a manifest, in every call that can make one.

    `models` are references of registered models; `model_files` are files or folders that are registered on the way,
    one under the name of what is being made, several as `<name>-<file name>`. `files` are further files and folders
    (a folder keeps its name). `with_conda` takes conda's own packages for the conda file. `schema` is a schema file,
    or its content. A sample is a file that holds a request body, or `{"input": body, "output": answer}`, as a file or
    as a mapping. `variables` are environment variables; `secrets` map variables to references (`env:NAME`,
    `file:/path`). `base` is a manifest that everything not given is taken from. `serving` holds limits and switches,
    such as `{"string_answers": "raw"}`.
    """

    models: Sequence[str]
    model_files: Sequence[PathLike]
    script: PathLike | None
    files: Sequence[PathLike]
    conda: PathLike | None
    with_conda: bool | None
    requirements: PathLike | None
    schema: PathLike | Mapping[str, Any] | None
    samples: Sequence[PathLike | Mapping[str, Any]]
    runtime: str | None
    variables: Mapping[str, str] | None
    secrets: Mapping[str, str] | None
    serving: Mapping[str, Any] | None
    base: str | None


@dataclass(frozen=True)
class Plan:
    """A recipe read and checked: `body` is the request without the files and models that are still to be sent."""

    name: str
    body: dict[str, Any]
    uploads: list[LocalFile] = field(default_factory=list)
    model_files: dict[str, PathLike] = field(default_factory=dict)


def given(options: RecipeOptions) -> bool:
    return any(value not in (None, [], (), {}) for value in options.values())


def plan(name: str, options: RecipeOptions, description: str = "") -> Plan:
    """Read all that the options name. Raises the error of the first that cannot be used; sends nothing."""
    check_name("manifest", name)
    for reference in options.get("models", ()):
        Reference.parse("model", reference)
    if (base := options.get("base")) is not None:
        Reference.parse("manifest", base)
    body: dict[str, Any] = {"name": name, "description": description, "from": base, "runtime": options.get("runtime")}
    uploads = []
    if (script := options.get("script")) is not None:
        uploads.append(files.single(script))
        body["script"] = uploads[0].path
    for extra in options.get("files", ()):
        uploads += files.collect(extra, skip_caches=True)
    _refuse_clashes(uploads)
    for kind in ("conda", "requirements"):
        source: PathLike | None = options.get(kind)  # type: ignore[assignment]
        if source is not None:
            body[kind], body[f"{kind}_name"] = files.read_text(source), files.single(source).path
    body["with_conda"] = options.get("with_conda") or None
    body["schema"] = _schema(options.get("schema"))
    body["samples"] = [read_sample(sample) for sample in options.get("samples", ())]
    body["environment"] = dict(options.get("variables") or {})
    body["secrets"] = check_secrets(options.get("secrets") or {})
    body["serving"] = dict(options.get("serving") or {})
    body["models"] = list(options.get("models", ()))
    body = {key: value for key, value in body.items() if value not in (None, [], {}, "")}
    return Plan(name, body, uploads, model_names(name, options.get("model_files", ())))


def send(plan: Plan, on_progress: Progress | None = None, on_message: OnMessage | None = None) -> Flow[dict[str, Any]]:
    """Upload the files, register the model files, and answer the ManifestRequest."""
    body = yield from _with_files(plan, on_progress)
    if plan.model_files:
        yield from _check(body)
    made = []
    for name, path in plan.model_files.items():
        made.append((yield from register_once(name, path, on_progress, on_message)).reference)
    if made:
        body["models"] = [*body.get("models", []), *made]
    return body


def check(plan: Plan, base: str | None) -> Flow[None]:
    """Let the server refuse a recipe on top of the manifest `base`, before models are registered for it."""
    body = yield from _with_files(plan, None)
    yield from _check({"from": base, **body} if base else body)


def _with_files(plan: Plan, on_progress: Progress | None) -> Flow[dict[str, Any]]:
    entries = yield from files.upload(plan.uploads, on_progress)
    return {**plan.body, "files": encode(entries)} if entries else dict(plan.body)


def _check(body: dict[str, Any]) -> Flow[None]:
    yield from call(Request("POST", path_of("manifests", "check"), json=body, repeatable=True))


def register_once(name: str, path: PathLike, on_progress: Progress | None, on_message: OnMessage | None) -> Flow[Model]:
    """Register a file or folder under `name`, or answer the latest version when it has the same content.

    So a command that failed half-way can be repeated without leaving a version behind each time.
    """
    if models.is_url(path):
        return (yield from models.register(path, name, on_message=on_message))
    found = files.existing(path)
    entries = yield from files.upload(files.collect(path), on_progress)
    try:
        latest: Model | None = yield from models.show(name)
    except UserError as problem:
        if problem.status != NotFound.status:
            raise
        latest = None
    if latest is not None and _same(latest.files, entries):
        _tell(on_message, f"model {latest.reference} has the same content and is used")
        return latest
    kind = "directory" if found.is_dir() else "file"
    model = yield from models.create({"name": name, "kind": kind, "source": str(found)}, entries)
    _tell(on_message, f"registered model {model.reference}")
    return model


def _tell(on_message: OnMessage | None, text: str) -> None:
    if on_message:
        on_message(text)


def _same(left: Iterable[FileEntry], right: Iterable[FileEntry]) -> bool:
    return {(entry.path, entry.sha256) for entry in left} == {(entry.path, entry.sha256) for entry in right}


def model_names(name: str, paths: Sequence[PathLike]) -> dict[str, PathLike]:
    """Name of each model file: `name` itself for one, `<name>-<file name>` for several."""
    for path in paths:
        if not models.is_url(path):
            files.collect(path)
    if len(paths) == 1:
        return {name: paths[0]}
    named: dict[str, PathLike] = {}
    for path in paths:
        basename = str(path).rstrip("/").rpartition("/")[2]
        suffix = re.sub(r"[^a-z0-9.]+", "-", basename.lower()).strip("-.")
        key = check_name("model", f"{name}-{suffix}")
        if key in named:
            raise InvalidFile(
                path, f"would be registered as {key}, and so would {named[key]}. Register them yourself "
                "(`argosy model register FILE -n NAME`) and name them with -i."
            )  # fmt: skip
        named[key] = path
    return named


def check_secrets(secrets: Mapping[str, str]) -> dict[str, str]:
    """References only: a value typed here by mistake must not be sent, and is not repeated in the error."""
    for variable, reference in secrets.items():
        if not reference.startswith(("env:", "file:/")):
            raise InvalidOption(f"the secret {variable}", "***", "write env:NAME or file:/path, never the value itself")
    return dict(secrets)


def _refuse_clashes(uploads: Sequence[LocalFile]) -> None:
    first: dict[str, LocalFile] = {}
    for file in uploads:
        if file.path in first and first[file.path].source != file.source:
            raise InvalidFile(
                file.source, f"would lie at {file.path} beside the script, and so would {first[file.path].source}"
            )
        first[file.path] = file


def _schema(schema: PathLike | Mapping[str, Any] | None) -> Any:
    if schema is None or isinstance(schema, Mapping):
        return schema
    content = _json_file(schema)
    if not isinstance(content, dict):
        raise InvalidFile(schema, "is no schema: a JSON object with `input` and `output` is wanted")
    return content


def read_sample(sample: PathLike | Mapping[str, Any]) -> dict[str, Any]:
    content = sample if isinstance(sample, Mapping) else _json_file(sample)
    pair = isinstance(content, Mapping) and "input" in content and set(content) <= {"input", "output", "tolerance"}
    if pair and (isinstance(sample, Mapping) or "output" in content):
        return dict(content)
    return {"input": content}


def _json_file(path: PathLike) -> Any:
    text = files.read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as problem:
        raise InvalidFile(
            path, f"is not valid JSON: {problem.msg} at line {problem.lineno}, column {problem.colno}"
        ) from None

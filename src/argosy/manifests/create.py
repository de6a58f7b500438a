"""From what a user gave to a frozen recipe: check, infer what is not given, resolve the lock, register."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from argosy.errors import Error, InvalidDependencies, InvalidFile, InvalidOption, TooLarge
from argosy.manifests.channels import Channels
from argosy.manifests.conda_file import CondaFile
from argosy.manifests.conda_lock import CondaWish, lock_conda
from argosy.manifests.dependencies import Dependencies
from argosy.manifests.infer import as_dependencies, infer
from argosy.manifests.lock import resolve
from argosy.manifests.no_script import SCRIPT, generate, without_generated
from argosy.manifests.registry import ManifestRegistry
from argosy.manifests.runtime import choose_python, parse_runtime
from argosy.manifests.samples import check_samples, inferred_samples, read_schema
from argosy.manifests.scripts import Script, check_inputs, check_script
from argosy.manifests.variables import check_references, check_variables
from argosy.manifests.wishes import Wishes, file_name, from_files, names, same_wishes
from argosy.models.paths import check_paths
from argosy.models.registry import ModelRegistry
from argosy.records import FileEntry, Lock, Manifest, Model, ModelPin, Recipe, Reference
from argosy.settings import Settings
from argosy.store.blobs import LocalBlobs
from argosy_serving import REQUIREMENTS
from argosy_serving.schema import Schema

Say = Callable[[str], None]
_SCRIPT_LIMIT_BYTES = 10_000_000
_SERVING_SWITCHES = {"string_answers": ("json", "raw")}
_SERVING_NUMBERS = {"max_batch_size": (1, 100_000), "max_batch_delay_ms": (0, 60_000)}


@dataclass(frozen=True)
class _Parts:
    """A request that is checked, with what the manifest it came `from` gave."""

    name: str
    models: list[Model]
    script: str
    files: list[FileEntry]
    script_facts: Script
    schema: dict[str, Any] | None
    parsed_schema: Schema | None
    samples: list[dict[str, Any]]
    request: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)


class ManifestBuilder:
    """Requests are ManifestRequest objects of docs/architecture.md, as JSON."""

    def __init__(
        self, models: ModelRegistry, manifests: ManifestRegistry, blobs: LocalBlobs, settings: Settings
    ) -> None:
        self._models = models
        self._manifests = manifests
        self._blobs = blobs
        self._settings = settings

    def create(self, request: Mapping[str, Any], say: Say) -> Manifest:
        """A new version, or the latest when it would be the same. Raises the UserError that names what is wrong."""
        origin = self._origin(request)
        parts = self._parts(_laid_over(self._ungenerated(origin, request), request), say)
        wishes = self._wishes(parts, origin, say)
        lock = self._lock(parts, wishes, origin, say)
        given = parts.request
        recipe = Recipe(
            models=[ModelPin(model.name, model.version, model.digest) for model in parts.models],
            runtime=f"python:{parse_runtime(given.get('runtime')).patch or lock.python}",
            script=parts.script,
            files=sorted(parts.files, key=lambda entry: entry.path),
            lock=lock,
            conda=given.get("conda"),
            conda_name=file_name(given, "conda"),
            requirements=given.get("requirements"),
            requirements_name=file_name(given, "requirements"),
            inferred=[f"{one.requirement} ({one.reason})" for one in wishes.inferred],
            index_url=wishes.on_index.index_url,
            extra_index_urls=list(wishes.on_index.extra_index_urls),
            schema=parts.schema,
            samples=parts.samples,
            environment=dict(given.get("environment") or {}),
            secrets=dict(given.get("secrets") or {}),
            serving=dict(given.get("serving") or {}),
        )
        notes = [
            *parts.notes,
            *wishes.on_index.notes,
            *(finding for model in parts.models for finding in _findings(model)),
        ]
        return self._manifests.create(parts.name, recipe, notes, str(request.get("description") or ""))

    def check(self, request: Mapping[str, Any]) -> list[str]:
        """What `create` would refuse before it resolves anything; the models may still be missing. Answers notes.

        Asked before models are registered for a recipe, so that one that cannot work leaves nothing behind.
        """
        origin = self._origin(request)
        whole = _laid_over(origin, request)
        if not whole.get("script"):
            # One may be generated for the model that is to come, which says what it needs when it is there.
            return []
        parts = self._parts(whole, _quietly)
        wishes = self._wishes(parts, origin, _quietly)
        choose_python(parse_runtime(parts.request.get("runtime")), wishes.python)
        return [*parts.notes, *wishes.on_index.notes]

    def _origin(self, request: Mapping[str, Any]) -> Recipe | None:
        if not request.get("from"):
            return None
        return self._manifests.get(Reference.parse("manifest", request["from"])).recipe

    def _ungenerated(self, origin: Recipe | None, request: Mapping[str, Any]) -> Recipe | None:
        """What was generated for the old model is generated anew, but where a script takes its place."""
        if origin is None or request.get("script"):
            return origin
        models = [self._models.get(Reference.parse("model", pin.reference)) for pin in origin.models]
        return without_generated(origin, models, self._content)

    def _parts(self, request: Mapping[str, Any], say: Say) -> _Parts:
        models = [self._models.get(Reference.parse("model", text)) for text in request.get("models") or []]
        notes: list[str] = []
        has_sample = True
        if not request.get("script"):
            request, notes, has_sample = self._without_script(request, models)
        files = [FileEntry(**entry) for entry in request.get("files") or []]
        script = request.get("script") or ""
        self._check_files(script, files, models)
        facts = check_script(script, self._read(script, files), [entry.path for entry in files])
        schema = request.get("schema")
        parsed = read_schema(schema) if schema is not None else None
        check_inputs(script, facts, None if parsed is None else list(parsed.inputs))
        _check_serving(request.get("serving") or {}, parsed)
        check_variables("environment", request.get("environment") or {})
        check_references(request.get("secrets") or {})
        samples = request.get("samples")
        if samples:
            samples = check_samples(samples, "samples", parsed)
        elif parsed is not None and has_sample:
            samples = inferred_samples(parsed)
            notes.append("The sample request was made from the schema; give your own with --sample.")
        else:
            samples = []
            notes.append(
                "There is no sample request: a replica counts as ready when it has answered the example of run()'s "
                "decorators."
                if facts.inputs and parsed is None
                else "There is no sample request, so a replica counts as ready when init() has returned."
            )
        for note in notes:
            say(note)
        return _Parts(request["name"], models, script, files, facts, schema, parsed, samples, request, notes)

    def _without_script(
        self, request: Mapping[str, Any], models: Sequence[Model]
    ) -> tuple[dict[str, Any], list[str], bool]:
        """The request with a generated script and what comes with it, notes, and whether a sample can be made."""
        made = generate(models, request.get("schema"), self._content)
        blob = self._blobs.put([made.script.encode()])
        entry = {"path": SCRIPT, "sha256": blob.sha256, "size_bytes": blob.size_bytes}
        whole = {**request, "script": SCRIPT, "schema": made.schema, "files": [*(request.get("files") or []), entry]}
        if request.get("conda") is None and request.get("requirements") is None:
            whole |= made.dependencies
        return whole, made.notes, made.has_sample

    def _check_files(self, script: str, files: Sequence[FileEntry], models: Sequence[Model]) -> None:
        check_paths([entry.path for entry in files])
        if script not in {entry.path for entry in files}:
            raise InvalidFile(script, "the scoring script is not among the files of the manifest.")
        for entry in files:
            stored_bytes = self._blobs.touch(entry.sha256)
            if stored_bytes is None:
                raise InvalidFile(
                    entry.path, f"its content (SHA-256 {entry.sha256}) was not uploaded. Upload it first."
                )
            if stored_bytes != entry.size_bytes:
                raise InvalidFile(
                    entry.path,
                    f"it has {stored_bytes:,} bytes, but {entry.size_bytes:,} were announced. Upload it again.",
                )
        names: dict[str, str] = {}
        # Everything lies side by side in a replica's working directory.
        for path, owner in [
            *((entry.path.split("/")[0], "the manifest's files") for entry in files),
            *((top, model.reference) for model in models for top in {f.path.split("/")[0] for f in model.files}),
        ]:
            if names.setdefault(path, owner) != owner:
                raise InvalidFile(
                    path,
                    f"both {names[path]} and {owner} bring it, and a replica's working directory has room for one. "
                    "Register one of them under another file name.",
                )
        if len({model.name for model in models}) < len(models):
            raise InvalidOption("models", [m.reference for m in models], "a manifest takes one version of a model")

    def _wishes(self, parts: _Parts, origin: Recipe | None, say: Say) -> Wishes:
        if wishes := from_files(parts.request, origin):
            for note in wishes.on_index.notes:
                say(note)
            return wishes
        inspections = [(model.reference, model.inspection) for model in parts.models]
        inferred = infer(parts.script_facts, inspections, parts.schema)
        for one in inferred:
            say(f"Inferred {one.requirement}, because {one.reason}")
        return Wishes(as_dependencies(inferred), inferred)

    def _lock(self, parts: _Parts, wishes: Wishes, origin: Recipe | None, say: Say) -> Lock:
        python = choose_python(parse_runtime(parts.request.get("runtime")), wishes.python)
        if origin is not None and same_wishes(origin, parts.request, wishes, python):
            # Renewed for a new model: the environment stays the very same, which is what makes it quick and safe.
            return origin.lock
        if wishes.conda and wishes.with_conda:
            return self._lock_conda(parts, wishes.conda, wishes.on_index, say)
        index = (self._settings.index_url, self._settings.extra_index_url)
        say(f"Resolving {len(wishes.on_index.requirements)} dependencies for Python {python}")
        try:
            return resolve(wishes.on_index, python, REQUIREMENTS, *index, on_line=None)
        except InvalidDependencies as problem:
            unknown = str(problem.details.get("unknown_package", ""))
            if not wishes.conda or unknown not in names(wishes.conda):
                raise
            note = f"{unknown} is on no package index: {wishes.conda.name} is solved with conda's packages."
            say(note)
            parts.notes.append(note)
            return self._after_the_index(parts, wishes.conda, problem, say)

    def _after_the_index(self, parts: _Parts, file: CondaFile, before: InvalidDependencies, say: Say) -> Lock:
        """With conda's packages, after the index had no such name. A mistyped name is on neither."""
        wishes = from_files({**parts.request, "with_conda": True}, None)
        assert wishes is not None
        try:
            return self._lock_conda(parts, file, wishes.on_index, say)
        except Error as problem:
            raise InvalidDependencies(
                f"{before.message} Conda's packages do not help either: {problem.message}",
                {**before.details, "conda": problem.details},
            ) from problem

    def _lock_conda(self, parts: _Parts, file: CondaFile, on_top: Dependencies, say: Say) -> Lock:
        wish = CondaWish(
            file,
            parse_runtime(parts.request.get("runtime")),
            on_top,
            REQUIREMENTS,
            Channels.of(self._settings.conda_channels),
            self._settings.index_url,
            self._settings.extra_index_url,
        )
        say(f"Solving {len(file.specs)} conda packages from {', '.join(wish.channel_names)}")
        lock, notes = lock_conda(wish)
        for note in notes:
            say(note)
        parts.notes.extend(notes)
        return lock

    def _read(self, script: str, files: Sequence[FileEntry]) -> bytes:
        entry = next(entry for entry in files if entry.path == script)
        if entry.size_bytes > _SCRIPT_LIMIT_BYTES:
            raise TooLarge(f"The scoring script {script}", _SCRIPT_LIMIT_BYTES)
        return self._content(entry)

    def _content(self, entry: FileEntry) -> bytes:
        with self._blobs.open(entry.sha256) as content:
            return content.read()


def _quietly(_: str) -> None:
    """What is found will be said when the manifest is made."""


def _laid_over(origin: Recipe | None, request: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, and from `origin` what is not. A new schema leaves the old samples behind."""
    if origin is None:
        return dict(request)
    old: dict[str, Any] = {
        "models": [pin.reference for pin in origin.models],
        "runtime": origin.runtime,
        "script": origin.script,
        "files": [vars(entry) for entry in origin.files],
        "schema": origin.schema,
        "samples": origin.samples,
        "environment": origin.environment,
        "secrets": origin.secrets,
        "serving": origin.serving,
    }
    if request.get("conda") is None and request.get("requirements") is None:
        old |= {"conda": origin.conda, "conda_name": origin.conda_name}
        old |= {"requirements": origin.requirements, "requirements_name": origin.requirements_name}
    else:
        # New dependency files may ask for another Python.
        old.pop("runtime")
    if "schema" in request:
        old.pop("samples")
    if any(part in request for part in ("models", "script", "files")):
        # Recorded answers are those of the old model and script; the requests stay good.
        old["samples"] = [{k: v for k, v in s.items() if k == "input"} for s in origin.samples]
    if request.get("files") is not None:
        script = request.get("script") or origin.script
        given = {entry["path"] for entry in request["files"]}
        kept = [vars(e) for e in origin.files if e.path not in given and (e.path != origin.script or e.path == script)]
        request = {**request, "files": [*request["files"], *kept]}
    serving = {**origin.serving, **(request.get("serving") or {})}
    return old | {key: value for key, value in request.items() if value is not None} | {"serving": serving}


def _check_serving(serving: Mapping[str, Any], schema: Schema | None) -> None:
    for name, value in serving.items():
        if name in _SERVING_NUMBERS:
            low, high = _SERVING_NUMBERS[name]
            if type(value) is not int or not low <= value <= high:
                raise InvalidOption(name, value, f"it must be a whole number from {low} to {high}")
        elif name not in _SERVING_SWITCHES:
            known = ", ".join([*_SERVING_SWITCHES, *_SERVING_NUMBERS])
            raise InvalidOption("serving", name, f"there is no such switch; known: {known}")
        elif value not in _SERVING_SWITCHES[name]:
            raise InvalidOption(name, value, f"choose one of {', '.join(_SERVING_SWITCHES[name])}")
    size = serving.get("max_batch_size", 1)
    # Without one here, the script's decorators may still declare a schema: then the replica decides.
    if size > 1 and schema is not None and (why := schema.unbatchable()):
        raise InvalidOption("max_batch_size", size, f"batches need inputs whose first axis is the batch, but {why}")


def _findings(model: Model) -> list[str]:
    return [f"{model.reference}: {finding}" for finding in model.inspection.findings]

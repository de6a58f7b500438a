"""The user's scoring script: loaded by path, its `run` bound to the schema, and its failures told in one line."""

import importlib.metadata
import importlib.util
import inspect
import linecache
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argosy_serving.azure.declared import declaration_of, schema_of, wants_raw_http
from argosy_serving.azure.decorators import Declaration
from argosy_serving.schema import Schema

_REQUEST, _REQUEST_HEADERS = "request", "request_headers"


class LoadFailed(Exception):
    """The replica cannot become ready. `code`: script_error, init_failed, init_timeout, sample_failed, invalid_spec."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


@dataclass(frozen=True)
class Caller:
    """What a script's optional parameter `request` holds. `caller` tells keys apart without being one."""

    id: str
    headers: Mapping[str, str]
    caller: str


@dataclass(frozen=True)
class Script:
    """A loaded script. Without a schema `run` gets the body as `str`, or as `bytes` when it is annotated so.

    `schema` is the manifest's, else the one that the script's decorators declare. With `raw_http` the parameter named
    `body_parameter` gets the request itself.
    """

    path: Path
    init: "Callable[[], Any] | None"
    run: Callable[..., Any]
    is_async: bool
    body_parameter: str
    wants_bytes: bool
    wants_request: bool
    wants_request_headers: bool
    raw_http: bool = False
    schema: "Schema | None" = None


def load_script(code: Path, name: str, schema: "Schema | None") -> Script:
    """Run the script's top level. Raises LoadFailed."""
    path = code / name
    if str(code) not in sys.path:
        sys.path.insert(0, str(code))
    stem = path.stem if path.stem.isidentifier() and path.stem not in sys.modules else "argosy_script"
    spec = importlib.util.spec_from_file_location(stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise LoadFailed("script_error", f"The scoring script {name} is not in the image.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as problem:
        sys.modules.pop(stem, None)
        raise LoadFailed("script_error", explain(problem, code)) from problem
    return _bind(module, path, schema)


def _bind(module: types.ModuleType, path: Path, schema: "Schema | None") -> Script:
    run, init = getattr(module, "run", None), getattr(module, "init", None)
    if not callable(run):
        raise LoadFailed("script_error", f"{path.name} has no function run().")
    if init is not None and not callable(init):
        raise LoadFailed("script_error", f"init in {path.name} is not a function.")
    raw_http = wants_raw_http(run)
    declaration = None if schema is not None else declaration_of(run)
    if declaration is not None and declaration.inputs:
        if raw_http:
            raise LoadFailed(
                "script_error", f"run() in {path.name} has both @rawhttp and @input_schema; only one can have the body."
            )
        schema, run = _declared_schema(declaration, path.name), declaration.function
    parameters = inspect.signature(run).parameters
    named = {n: p for n, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    inputs = set(schema.inputs) if schema and not raw_http else set()
    taken = {next(iter(named), "")} if raw_http else inputs
    wants = {n for n in (_REQUEST, _REQUEST_HEADERS) if n in named and n not in taken}
    own = {n: p for n, p in named.items() if n not in wants}
    body = ""
    if schema is not None and not raw_http:
        _check_inputs(path.name, own, inputs, any(p.kind is p.VAR_KEYWORD for p in parameters.values()))
        if declaration is None:
            _check_optional(path.name, own, schema)
    else:
        required = [n for n, p in own.items() if p.default is p.empty]
        if len(required) > 1:
            raise LoadFailed(
                "script_error",
                f"run({', '.join(required)}) in {path.name} has several inputs, but the manifest has no schema that "
                "names them. Add a schema, or take one parameter: the request body.",
            )
        body = next(iter(required or own), "")
        if raw_http and not body:
            raise LoadFailed("script_error", f"run() in {path.name} has @rawhttp, but no parameter for the request.")
    return Script(
        path=path,
        init=init,
        run=run,
        is_async=inspect.iscoroutinefunction(run) or inspect.isasyncgenfunction(run),
        body_parameter=body,
        wants_bytes=bool(body) and own[body].annotation in (bytes, "bytes"),
        wants_request=_REQUEST in wants,
        wants_request_headers=_REQUEST_HEADERS in wants,
        raw_http=raw_http,
        schema=schema,
    )


def _declared_schema(declaration: Declaration, script: str) -> Schema:
    try:
        return schema_of(declaration)
    except Exception as problem:
        raise LoadFailed("script_error", f"The decorators of run() in {script} cannot be read: {problem}") from problem


def _check_inputs(script: str, own: Mapping[str, inspect.Parameter], inputs: "set[str]", open_ended: bool) -> None:
    missing = [n for n, p in own.items() if p.default is p.empty and n not in inputs]
    unknown = [] if open_ended else [n for n in inputs if n not in own]
    positional = [n for n, p in own.items() if p.kind is p.POSITIONAL_ONLY]
    if missing or unknown or positional:
        raise LoadFailed(
            "script_error",
            f"run({', '.join(own)}) in {script} does not fit the schema's inputs "
            f"({', '.join(sorted(inputs)) or 'none'}): parameters and inputs must have the same names.",
        )


def _check_optional(script: str, own: Mapping[str, inspect.Parameter], schema: Schema) -> None:
    for name, each in schema.inputs.items():
        if not each.required and name in own and own[name].default is inspect.Parameter.empty:
            raise LoadFailed(
                "script_error",
                f"The schema says that {name!r} may be left out, but run() in {script} has no default for it.",
            )


def explain(problem: BaseException, code: Path) -> str:
    """Type and message of an error, with the last line of user code it passed through and what may help."""
    kind = type(problem).__name__
    if isinstance(problem, SystemExit):
        told = f"SystemExit: the script called sys.exit({problem.code!r})"
    else:
        told = f"{kind}: {_first_lines(str(problem))}" if str(problem) else kind
    return f"{told} ({_where(problem, code)}){_hint(problem)}"


def in_user_code(problem: "BaseException | None", code: Path) -> "BaseException | None":
    """The error with a traceback that begins in the user's code; None when it never got there."""
    trace = problem.__traceback__ if problem is not None else None
    while trace is not None and not Path(trace.tb_frame.f_code.co_filename).is_relative_to(code):
        trace = trace.tb_next
    return problem.with_traceback(trace) if problem is not None and trace is not None else None


def _first_lines(text: str, limit: int = 600) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."


def _where(problem: BaseException, code: Path) -> str:
    if isinstance(problem, SyntaxError) and problem.filename:
        return f"{Path(problem.filename).name}, line {problem.lineno}: {(problem.text or '').strip()}"
    found, trace = "", problem.__traceback__
    while trace is not None:
        frame = trace.tb_frame.f_code
        if Path(frame.co_filename).is_relative_to(code):
            line = linecache.getline(frame.co_filename, trace.tb_lineno).strip()
            found = f"{Path(frame.co_filename).name}, line {trace.tb_lineno}, in {frame.co_name}: {line}"
        trace = trace.tb_next
    return found or "outside the script"


def _hint(problem: BaseException) -> str:
    if not isinstance(problem, (ImportError, AttributeError, TypeError, ValueError, KeyError)):
        return ""
    if _passed_through(problem, ("pickle", "joblib", "cloudpickle", "dill")):
        return f". The model was saved by other library versions than this environment has ({_versions()})"
    if isinstance(problem, ModuleNotFoundError):
        return f". Add the package that provides {problem.name!r} to the manifest's dependencies"
    return ""


def _passed_through(problem: BaseException, modules: "tuple[str, ...]") -> bool:
    trace = problem.__traceback__
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__", "")).split(".")[0] in modules:
            return True
        if "pickle.load" in linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno):
            return True  # the pickle module written in C leaves no frame of its own
        trace = trace.tb_next
    return False


def _versions() -> str:
    names = ("scikit-learn", "numpy", "pandas", "scipy", "joblib", "xgboost", "lightgbm", "torch")
    found = []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found) or f"Python {sys.version.split()[0]}"

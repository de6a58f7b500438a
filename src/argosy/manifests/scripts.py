"""Reads a scoring script without running it: what `run` takes, whether there is an `init`, what is imported."""

import ast
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from argosy.errors import InvalidScript

LARGEST_SCRIPT_BYTES = 5_000_000
# `run` gets the caller's headers and id by this name; it is never an input.
REQUEST_PARAMETER = "request"
# Decorators that hand over the request itself, or decode inputs on their own.
_RAW_DECORATORS = frozenset({"rawhttp"})
_SCHEMA_DECORATORS = frozenset({"input_schema"})

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Parameter:
    name: str
    required: bool


@dataclass(frozen=True)
class Script:
    """What the text of a script says.

    `parameters` are those of `run` without `request`; None when `run` is made in a way that does not tell, such as
    `run = make()`. `accepts_any` is a `**kwargs`. `inputs` are the names that `input_schema` decorators give, in order.
    `imports` are the modules from outside of the standard library and of the manifest's own files, top level names.
    """

    parameters: tuple[Parameter, ...] | None
    has_init: bool
    is_async: bool
    has_request_param: bool
    imports: tuple[str, ...] = ()
    dotted_imports: tuple[str, ...] = ()
    accepts_any: bool = False
    is_raw: bool = False
    inputs: tuple[str, ...] = ()


def check_script(path: str, source: bytes, files: Collection[str] = ()) -> Script:
    """`files` are the paths of all files of the manifest: modules among them are not dependencies.

    Raises InvalidScript with the line: no Python, no `run`, an `init` that wants arguments.
    """
    tree = _parse(path, source)
    names = dict(_definitions(tree))
    if "run" not in names:
        raise InvalidScript(path, "it defines no `run`. A scoring script needs `def run(...)` at its top level.")
    _check_init(path, names.get("init"))
    run = names["run"]
    dotted = tuple(sorted(_imports(tree, files, path)))
    imports = tuple(dict.fromkeys(name.split(".")[0] for name in dotted))
    if not isinstance(run, _Function):
        return Script(None, "init" in names, False, False, imports, dotted)
    parameters = _parameters(path, run)
    decorators = [_decorator(node) for node in run.decorator_list]
    return Script(
        parameters=tuple(p for p in parameters if p.name != REQUEST_PARAMETER),
        has_init="init" in names,
        is_async=isinstance(run, ast.AsyncFunctionDef),
        has_request_param=any(p.name == REQUEST_PARAMETER for p in parameters),
        imports=imports,
        dotted_imports=dotted,
        accepts_any=run.args.kwarg is not None,
        is_raw=any(name in _RAW_DECORATORS for name, _ in decorators),
        inputs=tuple(first for name, first in reversed(decorators) if name in _SCHEMA_DECORATORS and first),
    )


def check_inputs(path: str, script: Script, inputs: Sequence[str] | None) -> None:
    """Whether `run` can be called with the schema's inputs; `inputs` is None when there is no schema.

    Without a schema `run` gets the raw body as its one argument. Raises InvalidScript with both lists.
    """
    if script.parameters is None or script.is_raw or (inputs is None and script.inputs):
        return
    required = [p.name for p in script.parameters if p.required]
    takes = ", ".join(p.name for p in script.parameters) or "nothing"
    if inputs is None:
        one = script.parameters or script.accepts_any or script.has_request_param
        if len(required) > 1 or not one:
            raise InvalidScript(
                path,
                f"without a schema `run` gets one argument, the body as text, but it takes: {takes}. "
                "Give a schema file with -s that names these inputs, or write `def run(body)`.",
            )
        return
    names = {p.name for p in script.parameters}
    unknown = [] if script.accepts_any else [name for name in inputs if name not in names]
    missing = [name for name in required if name not in inputs]
    if unknown or missing:
        problems = [
            *([f"`run` does not take {', '.join(unknown)}"] if unknown else []),
            *([f"the schema lacks {', '.join(missing)}"] if missing else []),
        ]
        raise InvalidScript(
            path,
            f"the schema and `run` do not fit: {' and '.join(problems)}. The schema's inputs: "
            f"{', '.join(inputs) or 'none'}; the parameters of `run`: {takes}. Make the names equal.",
        )


def _parse(path: str, source: bytes) -> ast.Module:
    if len(source) > LARGEST_SCRIPT_BYTES:
        raise InvalidScript(path, f"a script of more than {LARGEST_SCRIPT_BYTES:,} bytes is not read.")
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = source[: problem.start].count(b"\n") + 1
        raise InvalidScript(path, f"line {line} is not UTF-8 text. Save the script as UTF-8.") from problem
    try:
        return ast.parse(text, filename=path)
    except SyntaxError as problem:
        shown = f": {problem.text.strip()[:200]}" if problem.text else ""
        raise InvalidScript(path, f"line {problem.lineno or 1} is no Python ({problem.msg}){shown}") from problem
    except (ValueError, RecursionError, MemoryError) as problem:
        raise InvalidScript(path, f"it cannot be read as Python: {problem or 'nested too deeply'}") from problem


def _definitions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Names bound at the top level, in order, with the node that binds them; `if` and `try` blocks count."""
    for node in _top_level(tree.body):
        if isinstance(node, _Function | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            if node.value is None:
                continue
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in (n for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)):
                yield name.id, node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], node


def _top_level(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.TryStar | ast.With | ast.For | ast.While):
            for part in ("body", "handlers", "orelse", "finalbody"):
                for inner in getattr(node, part, []):
                    yield from _top_level(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


def _check_init(path: str, init: ast.AST | None) -> None:
    if not isinstance(init, _Function):
        return
    arguments = init.args
    required = [a.arg for a in [*arguments.posonlyargs, *arguments.args]]
    required = required[: len(required) - len(arguments.defaults)]
    required += [
        a.arg for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is None
    ]
    if required and not init.decorator_list:
        raise InvalidScript(
            path, f"line {init.lineno}: `init` is called without arguments, but it wants {', '.join(required)}."
        )


def _parameters(path: str, run: _Function) -> list[Parameter]:
    arguments = run.args
    plain = [*arguments.posonlyargs, *arguments.args]
    first_default = len(plain) - len(arguments.defaults)
    if len(arguments.posonlyargs) > 1 and not run.decorator_list:
        raise InvalidScript(
            path, f"line {run.lineno}: the inputs of `run` are handed over by name. Remove the `/` from its parameters."
        )
    keyword = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return [
        *(Parameter(a.arg, required=n < first_default) for n, a in enumerate(plain)),
        *(Parameter(a.arg, required=default is None) for a, default in keyword),
    ]


def _decorator(node: ast.expr) -> tuple[str, str]:
    """A decorator's last name and its first text argument: ("input_schema", "data")."""
    call = node if isinstance(node, ast.Call) else None
    function = call.func if call else node
    name = (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )
    if not call:
        return name, ""
    values = [*call.args[:1], *(k.value for k in call.keywords if k.arg == "param_name")]
    first = next((v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)), "")
    return name, first


def _imports(tree: ast.Module, files: Collection[str], path: str) -> set[str]:
    """Dotted names, wherever they are imported; relative and local ones and the standard library's left out."""
    local = {part for file in (*files, path) for part in _module_names(file)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module)
            # `from google.cloud import storage` may name a module of its own distribution.
            found.update(f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*")
    return {name for name in found if (top := name.split(".")[0]) not in sys.stdlib_module_names and top not in local}


def _module_names(file: str) -> list[str]:
    """What a file can be imported as: its first folder, and its own name without `.py`."""
    parts = file.split("/")
    return [*parts[:1], *([parts[-1].removesuffix(".py")] if file.endswith(".py") else [])]

"""A schema from the type hints of `run`, read from the script's text; the script is never run."""

import ast
from collections.abc import Callable
from typing import Any

from argosy.schema.samples import NoSchema
from argosy_serving.schema.arrays import ARRAY_TYPES
from argosy_serving.schema.swagger import array_fragment

_NOT_INPUTS = ("request", "request_headers")
_PLAIN: dict[str, dict[str, Any]] = {
    "int": {"type": "integer", "format": "int64"}, "float": {"type": "number", "format": "double"},
    "bool": {"type": "boolean"}, "str": {"type": "string"}, "bytes": {"type": "string", "format": "byte"},
    "date": {"type": "string", "format": "date"}, "datetime": {"type": "string", "format": "date-time"},
    "time": {"type": "string", "format": "time"}, "dict": {"type": "object"}, "Any": {}, "object": {},
    "list": {"type": "array", "items": {}}, "Decimal": {"type": ["string", "number"], "format": "decimal"},
    "timedelta": {"type": "string", "format": "timedelta"},
}  # fmt: skip
_LISTS = ("list", "List", "Sequence", "Iterable", "tuple", "Tuple")
_DICTS = ("dict", "Dict", "Mapping")
_ARRAYS = ("ndarray", "NDArray")


def run_parameters(source: str) -> list[str]:
    """The inputs of `run`, in order; empty when the script does not tell."""
    try:
        return [argument.arg for argument in _arguments(_find_run(source))]
    except NoSchema:
        return []


def from_script(source: str) -> dict[str, Any]:
    """Raises NoSchema with the line of the first parameter whose hint does not tell what is sent."""
    run = _find_run(source)
    positional = [*run.args.posonlyargs, *run.args.args]
    defaults: dict[str, ast.expr] = dict(
        zip([a.arg for a in positional[len(positional) - len(run.args.defaults) :]], run.args.defaults, strict=True)
    )
    defaults |= {a.arg: d for a, d in zip(run.args.kwonlyargs, run.args.kw_defaults, strict=True) if d is not None}
    inputs = {}
    for argument in _arguments(run):
        if argument.annotation is None:
            raise NoSchema(
                f"line {argument.lineno}: the parameter {argument.arg!r} of run() has no type hint. Write one, such as "
                f"`{argument.arg}: list[float]`, or give a sample file"
            )
        default = defaults.get(argument.arg)
        optional = {} if default is None else {"required": False}
        inputs[argument.arg] = _entry(argument, argument.annotation, default) | optional
    if not inputs:
        raise NoSchema("run() has no parameters: there is no input to infer")
    return {"input": inputs, "output": {}}


def _find_run(source: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
        line = getattr(problem, "lineno", None)
        raise NoSchema(f"{f'line {line}: ' if line else ''}it is no Python: {problem}") from None
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.name == "run"]
    if not found:
        raise NoSchema("it has no `def run(...)` at its top level")
    return found[-1]


def _arguments(run: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    every = [*run.args.posonlyargs, *run.args.args, *run.args.kwonlyargs]
    return [argument for argument in every if argument.arg not in _NOT_INPUTS]


def _entry(argument: ast.arg, hint: ast.expr, default: ast.expr | None) -> dict[str, Any]:
    hint = _unquoted(hint)
    outer = _name(hint.value if isinstance(hint, ast.Subscript) else hint)
    if outer == "DataFrame":
        raise NoSchema(
            f"line {argument.lineno}: {argument.arg!r} is a DataFrame, and its hint names no columns. Give a sample "
            f"instead: `argosy schema infer rows.csv --input {argument.arg}`"
        )
    if outer in _ARRAYS:
        dtype = _dtype(hint)
        shape = [None, None]
        return {"type": "numpy", "dtype": dtype, "shape": shape, "swagger": array_fragment(dtype, shape)}

    def unknown(node: ast.expr) -> NoSchema:
        return NoSchema(
            f"line {argument.lineno}: the hint {ast.unparse(node)!r} of {argument.arg!r} does not tell what JSON is "
            "sent. Use int, float, str, bytes, list[...], dict[str, ...], Literal[...], np.ndarray, or give a sample"
        )

    entry: dict[str, Any] = {"type": "standard", "swagger": _fragment(hint, unknown)}
    if default is not None:
        try:
            value = ast.literal_eval(default)
        except (ValueError, TypeError, SyntaxError, RecursionError):
            return entry
        if value is None or isinstance(value, bool | int | float | str | list | dict):
            entry["example"] = value
    return entry


def _fragment(hint: ast.expr, unknown: Callable[[ast.expr], NoSchema]) -> dict[str, Any]:
    hint = _unquoted(hint)
    if isinstance(hint, ast.BinOp) and isinstance(hint.op, ast.BitOr):
        return _union([hint.left, hint.right], unknown)
    if not isinstance(hint, ast.Subscript):
        name = _name(hint)
        if name not in _PLAIN:
            raise unknown(hint)
        return dict(_PLAIN[name])
    outer = _name(hint.value)
    inner = list(hint.slice.elts) if isinstance(hint.slice, ast.Tuple) else [hint.slice]
    if outer == "Optional":
        return _union([*inner, ast.Constant(None)], unknown)
    if outer == "Union":
        return _union(inner, unknown)
    if outer == "Annotated":
        return _fragment(inner[0], unknown)
    if outer == "Literal":
        return {"enum": [ast.literal_eval(each) for each in inner]}
    if outer in _LISTS:
        return {"type": "array", "items": _fragment(inner[0], unknown)}
    if outer in _DICTS and len(inner) == 2:
        return {"type": "object", "additionalProperties": _fragment(inner[1], unknown)}
    raise unknown(hint)


def _union(parts: list[ast.expr], unknown: Callable[[ast.expr], NoSchema]) -> dict[str, Any]:
    empty = [part for part in parts if isinstance(part, ast.Constant) and part.value is None]
    rest = [_fragment(part, unknown) for part in parts if part not in empty]
    whole = rest[0] if len(rest) == 1 else {"anyOf": rest}
    return {**whole, "nullable": True} if empty else whole


def _unquoted(hint: ast.expr) -> ast.expr:
    """A hint that is written as a string."""
    if isinstance(hint, ast.Constant) and isinstance(hint.value, str):
        try:
            return ast.parse(hint.value, mode="eval").body
        except (SyntaxError, ValueError, RecursionError):
            return hint
    return hint


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _dtype(hint: ast.expr) -> str:
    """`NDArray[np.float32]` names its type; a bare ndarray is taken for floats."""
    for node in ast.walk(hint):
        if isinstance(node, ast.expr) and _name(node).rstrip("_") in ARRAY_TYPES:
            return _name(node).rstrip("_")
    return "float64"

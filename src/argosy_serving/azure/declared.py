"""The schema that a script's decorators declare: those of this package, and of the real `inference_schema`.

The real package keeps only Swagger fragments; the parameter types themselves, with their samples, are in the closures
of the wrapped function. Where they cannot be found there, the fragments describe the inputs and the package's own
conversion, which runs inside of `run`, does the checking.
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from argosy_serving.azure.decorators import DECLARATION, Declaration, Input, convert
from argosy_serving.azure.parameter_types import AbstractParameterType
from argosy_serving.azure.raw_http import RAW_HTTP
from argosy_serving.refusals import BadInput, Refusal
from argosy_serving.schema import DataTypes, Field, InvalidInput, SampleDefinition, Schema, generate_schema
from argosy_serving.schema.parse import parse_schema
from argosy_serving.schema.problems import describe, step

_NUMPY, _PANDAS, _STANDARD = "NumpyParameterType", "PandasParameterType", "StandardPythonParameterType"
_HOMES = ("argosy_serving.azure.parameter_types", "inference_schema.parameter_types.")
# Parameters that carry the request, never an input of it.
NOT_INPUTS = ("request", "request_headers")
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
# The frames of a schema take these as they come.
_KNOWN_ORIENTS = ("records", "split", "columns")
_RAW_MODULES = ("azureml.contrib.services.aml_request", "azureml_inference_server_http.api.aml_request")


def wants_raw_http(run: Callable[..., Any]) -> bool:
    """True when `run`, or a function that it wraps, is decorated with `rawhttp`, ours or a real one."""
    if any(getattr(layer, RAW_HTTP, False) is True for layer in _layers(run)):
        return True
    # The real ones leave the function as it is, and a mark on their module.
    return any(getattr(sys.modules.get(name), "_rawHttpRequested", False) is True for name in _RAW_MODULES)


def declaration_of(run: Callable[..., Any]) -> "Declaration | None":
    """What the decorators of `run` say; None without any. Its `function` is what the replica calls: the function
    beneath when the decorators are ours and outermost, else `run`."""
    found = getattr(run, DECLARATION, None)
    if isinstance(found, Declaration):
        return found if found.wrapper is run else replace(found, function=run)
    return _real_declaration(run)


def schema_of(declaration: Declaration) -> Schema:
    """Raises ValueError when an input's sample cannot be read."""
    parameters = inspect.signature(declaration.function).parameters
    names = [p.name for p in parameters.values() if p.kind in _BY_NAME and p.name not in NOT_INPUTS]
    names += [name for name in declaration.inputs if name not in names]
    inputs = {}
    for name in names:
        # A parameter without a decorator gets what JSON says.
        declared = declaration.inputs.get(name)
        field = _loose(name, {}) if declared is None else _input_field(name, declared)
        has_default = name in parameters and parameters[name].default is not inspect.Parameter.empty
        optional = has_default or (declared is not None and declared.optional)
        inputs[name] = replace(field, required=not optional)
    outputs = {} if declaration.output is None else {"output": _loose("output", _fragment(declaration.output))}
    return Schema(inputs, outputs)


def _layers(run: Any) -> Iterator[Any]:
    seen: list[int] = []
    while run is not None and id(run) not in seen:
        seen.append(id(run))
        yield run
        run = getattr(run, "__wrapped__", None)


def _real_declaration(run: Callable[..., Any]) -> "Declaration | None":
    util = sys.modules.get("inference_schema.schema_util")
    if util is None:
        return None
    inputs: dict[str, Input] = {}
    for layer in _layers(run):
        cells = _closure(getattr(layer, "_self_wrapper", None))
        if "param_name" in cells and "param_type" in cells:
            converts = bool(cells.get("convert_to_provided_type", True))
            inputs[cells["param_name"]] = Input(cells["param_type"], converts, bool(cells.get("optional", False)))
    fragment: Mapping[str, Any] = util.get_input_schema(run)
    examples = fragment.get("example", {})
    for name, described in fragment.get("properties", {}).items():
        if name not in inputs and described:
            inputs[name] = Input(_Described({**described, "example": examples.get(name)}), converts=False)
    answer: Mapping[str, Any] = util.get_output_schema(run)
    output = None if answer == {"type": "object"} else _Described(answer)
    return Declaration(run, inputs, output) if inputs or output else None


class _Described:
    """A parameter type of which only the Swagger fragment is known."""

    def __init__(self, fragment: Mapping[str, Any]) -> None:
        self._fragment = dict(fragment)

    def input_to_swagger(self) -> dict[str, Any]:
        return dict(self._fragment)


def _closure(function: Any) -> dict[str, Any]:
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
    if code is None or not cells:
        return {}
    found = {}
    for name, cell in zip(code.co_freevars, cells, strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue  # an empty cell
    return found


def _input_field(name: str, declared: Input) -> Field:
    kind = declared.type
    if not declared.converts:
        return _loose(name, _fragment(kind))  # `run` takes the value as JSON made it
    if not _is_known(kind):
        # The real package's decorators around `run` convert it.
        _guard(kind, step("", name))
        return replace(_loose(name, _fragment(kind)), make=lambda: _container_of(kind))
    if _is_plain(kind) and (exact := _exact(name, kind)) is not None:
        return exact

    def decode(value: Any, at: str, _: bool) -> Any:
        try:
            return convert(kind, value)
        except Exception as problem:  # noqa: BLE001 - their types raise bare Exception too
            raise _unfit(kind, at, value, problem) from None

    return replace(_loose(name, _fragment(kind)), make=lambda: decode)


def _unfit(kind: Any, at: str, value: Any, problem: Exception) -> InvalidInput:
    expected = f"a value for {type(kind).__name__} like the example"
    return InvalidInput(at, expected, f"{describe(value)} ({str(problem)[:200]})")


def _guard(kind: Any, at: str) -> None:
    """What a type of the script's own refuses is the caller's mistake also when it does so inside of `run`."""
    own = kind.deserialize_input

    def deserialize_input(value: Any) -> Any:
        try:
            return own(value)
        except Refusal:
            raise
        except Exception as problem:
            raise BadInput.of(_unfit(kind, at, value, problem)) from problem

    kind.deserialize_input = deserialize_input


def _container_of(kind: Any) -> Callable[[Any, str, bool], Any]:
    """Anything, but an object or an array where the real package insists on one."""
    sample = getattr(kind, "sample_data_type", None)
    wanted: type = dict if sample is dict else list if sample in (list, tuple) else object

    def decode(value: Any, at: str, _: bool) -> Any:
        if not isinstance(value, wanted):
            raise InvalidInput(at, "an object" if wanted is dict else "an array", describe(value))
        return value

    return decode


def _is_known(kind: Any) -> bool:
    """Whether converting it here is converting it once. What a script's own type makes of a value need not be what
    the real package's decorators take for converted; ours are not called."""
    return _is_plain(kind) or isinstance(kind, AbstractParameterType)


def _is_plain(kind: Any) -> bool:
    """Whether it is a type of the packages themselves: a script's own may do anything."""
    own = type(kind)
    return own.__name__ in (_NUMPY, _PANDAS, _STANDARD) and own.__module__.startswith(_HOMES)


def _exact(name: str, kind: Any) -> "Field | None":
    """The field of a type that a schema can say; None when it allows more, or another form, than a schema does."""
    own, sample = type(kind).__name__, kind.sample_input
    if own != _STANDARD and not (getattr(kind, "enforce_column_type", True) and getattr(kind, "enforce_shape", True)):
        return None
    if own == _PANDAS and (kind.orient not in _KNOWN_ORIENTS or kind.apply_column_names):
        return None
    if own == _STANDARD and isinstance(sample, (dict, list, tuple)):
        return None  # their members may be anything
    number = {_NUMPY: DataTypes.NUMPY, _PANDAS: DataTypes.PANDAS, _STANDARD: DataTypes.STANDARD}[own]
    try:
        document = generate_schema(_anything, {name: SampleDefinition(number, sample)})
    except ValueError:
        return None
    return parse_schema(document).inputs[name]


def _anything(**_: Any) -> None:
    """A `run` with any inputs."""


def _fragment(kind: Any) -> dict[str, Any]:
    return dict(kind.input_to_swagger())


def _loose(name: str, fragment: Mapping[str, Any]) -> Field:
    """A field that describes the value by `fragment` and lets anything through."""
    example = {"example": fragment["example"]} if fragment.get("example") is not None else {}
    field = parse_schema({"input": {name: {"type": "standard", "swagger": {}, **example}}}).inputs[name]
    return replace(field, swagger={key: value for key, value in fragment.items() if key != "example"})

"""`@input_schema` and `@output_schema`, stacked in any order and number.

The replica decodes inputs itself and calls the function beneath; whoever calls the decorated function gets the
conversion that `inference_schema` does.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from argosy_serving.azure.parameter_types import AbstractParameterType

DECLARATION = "__argosy_declaration__"


@dataclass(frozen=True)
class Input:
    """One `input_schema`. `converts` is False when `run` wants the value as JSON made it."""

    type: Any
    converts: bool = True
    optional: bool = False


@dataclass(frozen=True)
class Declaration:
    """What all decorators of `function` say. `wrapper` is the decorated function itself: a further decorator around it
    copies this attribute, and then the two differ."""

    function: Callable[..., Any]
    inputs: Mapping[str, Input]
    output: Any = None
    wrapper: "Callable[..., Any] | None" = None


def input_schema(
    param_name: str, param_type: Any, convert_to_provided_type: bool = True, optional: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The input `param_name` of the decorated function is a `param_type`."""
    _check_type(param_type)

    def decorate(run: Callable[..., Any]) -> Callable[..., Any]:
        old = _declaration(run)
        parameters = inspect.signature(old.function).parameters
        if param_name not in parameters and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            raise ValueError(f"input_schema: {old.function.__name__}() has no parameter {param_name!r}.")
        added = Input(param_type, convert_to_provided_type, optional)
        return _wrap(replace(old, inputs={**old.inputs, param_name: added}))

    return decorate


def output_schema(output_type: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The decorated function answers with an `output_type`."""
    _check_type(output_type)

    def decorate(run: Callable[..., Any]) -> Callable[..., Any]:
        return _wrap(replace(_declaration(run), output=output_type))

    return decorate


def _check_type(given: Any) -> None:
    if not isinstance(given, AbstractParameterType):
        raise TypeError(f"A parameter type such as NumpyParameterType(sample) is needed, not {type(given).__name__}.")


def _declaration(run: Callable[..., Any]) -> Declaration:
    found = getattr(run, DECLARATION, None)
    return found if isinstance(found, Declaration) and found.wrapper is run else Declaration(run, {})


def _wrap(declaration: Declaration) -> Callable[..., Any]:
    function, signature = declaration.function, inspect.signature(declaration.function)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        for name, declared in declaration.inputs.items():
            if name in given.arguments and declared.converts:
                given.arguments[name] = convert(declared.type, given.arguments[name])
        return function(*given.args, **given.kwargs)

    setattr(wrapper, DECLARATION, replace(declaration, wrapper=wrapper))
    return wrapper


def convert(kind: Any, value: Any) -> Any:
    """A JSON value as the parameter type `kind` has it; nested types too. What is converted already stays.

    Raises whatever the type does: ValueError of ours, anything of a script's own type.
    """
    nested: Mapping[str, Any] = getattr(kind, "sample_data_type_map", None) or {}
    if nested and isinstance(value, dict):
        return {name: convert(nested[name], item) if name in nested else item for name, item in value.items()}
    each = getattr(kind, "sample_data_type_list", None)
    if each and isinstance(value, list):
        return [convert(each[0], item) for item in value]
    if isinstance(value, getattr(kind, "sample_data_type", ())):
        return value
    return kind.deserialize_input(value)


def get_input_schema(func: Callable[..., Any]) -> dict[str, Any]:
    """JSON Schema of the inputs, with an example; a bare object for a function without decorators."""
    declaration = getattr(func, DECLARATION, None)
    if not isinstance(declaration, Declaration):
        return {"type": "object"}
    fragments = {name: declared.type.input_to_swagger() for name, declared in declaration.inputs.items()}
    return {
        "type": "object",
        "properties": {n: {k: v for k, v in f.items() if k != "example"} for n, f in fragments.items()},
        "example": {name: fragment.get("example") for name, fragment in fragments.items()},
    }


def get_output_schema(func: Callable[..., Any]) -> dict[str, Any]:
    """JSON Schema of the answer; a bare object where none is declared."""
    declaration = getattr(func, DECLARATION, None)
    if not isinstance(declaration, Declaration) or declaration.output is None:
        return {"type": "object"}
    found: dict[str, Any] = declaration.output.input_to_swagger()
    return found


def is_schema_decorated(func: Callable[..., Any]) -> bool:
    return isinstance(getattr(func, DECLARATION, None), Declaration)

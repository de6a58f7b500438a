"""Inputs of type `standard`: a subset of JSON Schema, compiled to functions that check and convert.

A string of format `byte` or `binary` is base64 and becomes `bytes`; `date`, `date-time`, `time` and `duration` (also
`timedelta`) become those of `datetime`; `decimal` (a string or a number) a `Decimal`; everything else stays what JSON
made of it. Keywords that would have to be obeyed but are not known are refused when the file is read, so nothing is
silently left unchecked.
"""

import base64
import binascii
import datetime
import decimal
import re
from collections.abc import Callable, Mapping
from typing import Any

from argosy_serving.schema.durations import parse_duration
from argosy_serving.schema.problems import InvalidInput, InvalidSchemaFile, describe, step

Decode = Callable[[Any, str], Any]

_ANNOTATIONS = {
    "title", "description", "default", "example", "examples", "deprecated", "readOnly", "writeOnly", "xml",
    "externalDocs", "discriminator", "$schema", "$id", "$comment", "contentEncoding", "contentMediaType",
}  # fmt: skip
_KNOWN = {
    "type", "format", "nullable", "properties", "required", "additionalProperties", "items", "enum", "const",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
    "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "anyOf", "allOf",
}  # fmt: skip
_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_WORDS = {
    "null": "null", "boolean": "true or false", "integer": "a whole number", "number": "a number",
    "string": "a string", "array": "an array", "object": "an object",
}  # fmt: skip
INT_RANGES = {
    f"{sign}int{bits}": (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for bits in (8, 16, 32, 64)
    for sign in ("", "u")
}
_DATE = r"(\d{4}-\d{2}-\d{2})"
_TIME = r"(\d{2}:\d{2}(?::\d{2}(?:[.]\d{1,9})?)?)"
_ZONE = r"\s?(Z|z|[+-]\d{2}:?\d{2})?"
_DATE_TIME_FORM = re.compile(rf"{_DATE}[Tt ]{_TIME}{_ZONE}", re.ASCII)
_TIME_FORM = re.compile(rf"{_TIME}{_ZONE}", re.ASCII)
_DATE_FORM = re.compile(_DATE, re.ASCII)
_DECIMAL_FORM = re.compile(r"[+-]?(\d{1,1000}([.]\d{0,1000})?|[.]\d{1,1000})([eE][+-]?\d{1,4})?", re.ASCII)


def kind_of(value: Any) -> str:
    """The JSON type of a decoded value; a whole float such as 1.0 is still a `number`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def compile_standard(fragment: Any, pointer: str, legacy: bool = False) -> Decode:
    """A function (value, pointer) -> value for one schema fragment; it raises InvalidInput.

    `legacy`: a file of 2017, in which a bare `{"type": "object"}` below the root stood for "anything".
    """
    if fragment is True or fragment == {}:
        return lambda value, _: value
    if not isinstance(fragment, Mapping):
        raise InvalidSchemaFile(pointer, f"a JSON Schema object is needed, not {describe(fragment)}")
    for keyword in fragment:
        if keyword not in _KNOWN and keyword not in _ANNOTATIONS and not str(keyword).startswith("x-"):
            raise InvalidSchemaFile(step(pointer, keyword), "this keyword is not supported; remove it")
    if legacy and set(fragment) <= {"type", "example"} and fragment.get("type") == "object":
        return lambda value, _: value
    steps = [
        *_type_steps(fragment, pointer),
        *_bound_steps(fragment, pointer),
        *_array_steps(fragment, pointer, legacy),
        *_object_steps(fragment, pointer, legacy),
        *_choice_steps(fragment, pointer, legacy),
    ]
    convert = _format_step(fragment, pointer)
    nullable = _nullable(fragment)

    def decode(value: Any, at: str) -> Any:
        if value is None and nullable:
            return None
        for check in steps:
            value = check(value, at)
        return convert(value, at) if convert else value

    return decode


def _nullable(fragment: Mapping[str, Any]) -> bool:
    return bool(fragment.get("nullable") or fragment.get("x-nullable"))


def _type_steps(fragment: Mapping[str, Any], pointer: str) -> list[Decode]:
    if "type" not in fragment:
        return []
    wanted = fragment["type"] if isinstance(fragment["type"], list) else [fragment["type"]]
    for name in wanted:
        if name not in _TYPES:
            raise InvalidSchemaFile(step(pointer, "type"), f"{name!r} is no JSON type; known: {', '.join(_TYPES)}")
    expected = " or ".join(_WORDS[name] for name in wanted)

    def check(value: Any, at: str) -> Any:
        kind = kind_of(value)
        if kind in wanted or (kind == "integer" and "number" in wanted):
            return value
        if kind == "number" and "integer" in wanted and value.is_integer():
            return int(value)
        raise InvalidInput(at, expected, describe(value))

    return [check]


def _bound_steps(fragment: Mapping[str, Any], pointer: str) -> list[Decode]:
    steps: list[Decode] = []
    numbers: list[tuple[str, str, Callable[[Any, Any], bool]]] = [
        ("minimum", "at least", lambda v, b: v >= b),
        ("maximum", "at most", lambda v, b: v <= b),
        ("exclusiveMinimum", "more than", lambda v, b: v > b),
        ("exclusiveMaximum", "less than", lambda v, b: v < b),
        ("multipleOf", "a multiple of", lambda v, b: v % b == 0),
    ]
    for keyword, words, holds in numbers:
        bound = fragment.get(keyword)
        if isinstance(bound, bool) and keyword.startswith("exclusive"):
            # Swagger 2.0 and JSON Schema draft 4: a flag beside minimum or maximum.
            bound = fragment.get(keyword.replace("exclusiveM", "m")) if bound else None
        if bound is not None:
            if kind_of(bound) not in ("integer", "number") or (keyword == "multipleOf" and bound <= 0):
                raise InvalidSchemaFile(step(pointer, keyword), f"a number is needed, not {describe(bound)}")
            steps.append(_bound(("integer", "number"), f"{words} {bound!r}", _against(holds, bound)))
    sizes: list[tuple[str, str, str, Callable[[Any, Any], bool]]] = [
        ("minLength", "string", "at least {} characters", lambda v, b: len(v) >= b),
        ("maxLength", "string", "at most {} characters", lambda v, b: len(v) <= b),
        ("minItems", "array", "at least {} items", lambda v, b: len(v) >= b),
        ("maxItems", "array", "at most {} items", lambda v, b: len(v) <= b),
        ("minProperties", "object", "at least {} members", lambda v, b: len(v) >= b),
        ("maxProperties", "object", "at most {} members", lambda v, b: len(v) <= b),
    ]
    for keyword, kind, words, holds in sizes:
        if (bound := fragment.get(keyword)) is not None:
            if kind_of(bound) != "integer":
                raise InvalidSchemaFile(step(pointer, keyword), f"a whole number is needed, not {describe(bound)}")
            steps.append(_bound((kind,), words.format(bound), _against(holds, bound)))
    if (pattern := fragment.get("pattern")) is not None:
        try:
            search = re.compile(pattern).search
        except (re.error, TypeError) as problem:
            raise InvalidSchemaFile(step(pointer, "pattern"), f"no regular expression: {problem}") from None
        steps.append(_bound(("string",), f"a string that matches {pattern}", lambda v: search(v) is not None))
    if str(fragment.get("format")) in INT_RANGES and fragment.get("type") == "integer":
        low, high = INT_RANGES[fragment["format"]]
        words = f"a whole number from {low} to {high} ({fragment['format']})"
        steps.append(_bound(("integer",), words, lambda v: low <= v <= high))
    return steps


def _against(holds: Callable[[Any, Any], bool], bound: Any) -> Callable[[Any], bool]:
    return lambda value: holds(value, bound)


def _bound(kinds: tuple[str, ...], expected: str, holds: Callable[[Any], bool]) -> Decode:
    def check(value: Any, at: str) -> Any:
        if kind_of(value) in kinds and not holds(value):
            raise InvalidInput(at, expected, describe(value))
        return value

    return check


def _array_steps(fragment: Mapping[str, Any], pointer: str, legacy: bool) -> list[Decode]:
    steps: list[Decode] = []
    if fragment.get("uniqueItems"):
        steps.append(_bound(("array",), "items that differ", lambda v: len({repr(item) for item in v}) == len(v)))
    if "items" in fragment:
        item = compile_standard(fragment["items"], step(pointer, "items"), legacy)

        def each(value: Any, at: str) -> Any:
            if not isinstance(value, list):
                return value
            return [item(entry, f"{at}/{index}") for index, entry in enumerate(value)]

        steps.append(each)
    return steps


def _object_steps(fragment: Mapping[str, Any], pointer: str, legacy: bool) -> list[Decode]:
    properties = fragment.get("properties", {})
    required = fragment.get("required", [])
    if not isinstance(properties, Mapping) or not isinstance(required, list):
        raise InvalidSchemaFile(pointer, "properties must be an object and required an array")
    members = {
        name: compile_standard(inner, step(step(pointer, "properties"), name), legacy)
        for name, inner in properties.items()
    }
    more = fragment.get("additionalProperties", True)
    others = None if isinstance(more, bool) else compile_standard(more, step(pointer, "additionalProperties"), legacy)
    if not members and not required and others is None and more is True:
        return []

    def check(value: Any, at: str) -> Any:
        if not isinstance(value, dict):
            return value
        for name in required:
            if name not in value:
                raise InvalidInput(step(at, name), "this member", "nothing")
        decoded = {}
        for name, inner in value.items():
            decode = members.get(name, others)
            if decode is None and more is False:
                raise InvalidInput(step(at, name), f"only the members {', '.join(members)}", "an unknown member")
            decoded[name] = decode(inner, step(at, name)) if decode else inner
        return decoded

    return [check]


def _choice_steps(fragment: Mapping[str, Any], pointer: str, legacy: bool) -> list[Decode]:
    steps: list[Decode] = []
    for keyword in ("enum", "const"):
        if keyword in fragment:
            allowed = fragment["enum"] if keyword == "enum" else [fragment["const"]]
            if not isinstance(allowed, list) or not allowed:
                raise InvalidSchemaFile(step(pointer, "enum"), "an array with at least one value is needed")
            steps.append(_one_of(allowed))
    for index, inner in enumerate(fragment.get("allOf", [])):
        steps.append(compile_standard(inner, step(step(pointer, "allOf"), index), legacy))
    if "anyOf" in fragment:
        branches = [
            compile_standard(inner, step(step(pointer, "anyOf"), index), legacy)
            for index, inner in enumerate(fragment["anyOf"])
        ]

        def any_of(value: Any, at: str) -> Any:
            problems = []
            for branch in branches:
                try:
                    return branch(value, at)
                except InvalidInput as problem:
                    problems.append(problem.expected)
            raise InvalidInput(at, " or ".join(problems), describe(value))

        steps.append(any_of)
    return steps


def _one_of(allowed: list[Any]) -> Decode:
    expected = "one of " + ", ".join(repr(value) for value in allowed[:10])

    def check(value: Any, at: str) -> Any:
        # 1 == True in Python, not in JSON.
        if any(value == choice and kind_of(value) == kind_of(choice) for choice in allowed):
            return value
        raise InvalidInput(at, expected, describe(value))

    return check


def _format_step(fragment: Mapping[str, Any], pointer: str) -> "Decode | None":
    kinds = fragment.get("type", "string")
    if fragment.get("format") == "decimal":
        return lambda value, at: value if value is None else parse_decimal(value, at)
    if kinds != "string" and not (isinstance(kinds, list) and "string" in kinds):
        return None
    parse = _FORMATS.get(fragment.get("format", ""))
    if parse is None:
        return None
    return lambda value, at: parse(value, at) if isinstance(value, str) else value


def parse_bytes(text: str, at: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(at, "bytes in base64", describe(text)) from None


def parse_decimal(value: Any, at: str) -> decimal.Decimal:
    """Of a number its shortest form, which is what was sent unless it had more than 15 digits; send those as text."""
    if kind_of(value) in ("integer", "number") or (isinstance(value, str) and _DECIMAL_FORM.fullmatch(value)):
        return decimal.Decimal(str(value))
    raise InvalidInput(at, "a decimal number such as '12.50'", describe(value))


def parse_date(text: str, at: str) -> datetime.date:
    try:
        if _DATE_FORM.fullmatch(text):
            return datetime.date.fromisoformat(text)
    except ValueError:
        pass
    raise InvalidInput(at, "a date such as 2024-05-31", describe(text))


def split_date_time(text: str, at: str) -> "tuple[str, str, datetime.timedelta | None]":
    """Date, time and offset from UTC (None: none given) of an ISO 8601 text or of the 2017 form with spaces."""
    expected = "a date and time such as 2024-05-31T12:00:00Z"
    if _DATE_FORM.fullmatch(text):
        return text, "00:00:00", None
    if not (form := _DATE_TIME_FORM.fullmatch(text)):
        raise InvalidInput(at, expected, describe(text))
    date, time, zone = form.groups()
    return date, time, _offset(zone)


def parse_date_time(text: str, at: str) -> datetime.datetime:
    date, time, offset = split_date_time(text, at)
    try:
        moment = datetime.datetime.fromisoformat(f"{date}T{_six_digits(time)}")
    except ValueError:
        raise InvalidInput(at, "a date and time such as 2024-05-31T12:00:00Z", describe(text)) from None
    return moment if offset is None else moment.replace(tzinfo=_zone(offset, text, at))


def parse_time(text: str, at: str) -> datetime.time:
    form = _TIME_FORM.fullmatch(text)
    try:
        if form:
            time = datetime.time.fromisoformat(_six_digits(form.group(1)))
            offset = _offset(form.group(2))
            return time if offset is None else time.replace(tzinfo=_zone(offset, text, at))
    except ValueError:
        pass
    raise InvalidInput(at, "a time such as 12:30:00", describe(text))


def _offset(zone: "str | None") -> "datetime.timedelta | None":
    if not zone:
        return None
    if zone in "Zz":
        return datetime.timedelta(0)
    digits = zone[1:].replace(":", "")
    amount = datetime.timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -amount if zone[0] == "-" else amount


def _zone(offset: datetime.timedelta, text: str, at: str) -> datetime.timezone:
    try:
        return datetime.timezone(offset)
    except ValueError:
        raise InvalidInput(at, "an offset of less than a day", describe(text)) from None


def _six_digits(time: str) -> str:
    """Python 3.10 reads fractions of exactly 3 or 6 digits. Digits beyond a microsecond cannot be kept by datetime."""
    whole, dot, fraction = time.partition(".")
    return f"{whole}.{fraction[:6]:0<6}" if dot else whole


_FORMATS: dict[str, Decode] = {
    "byte": parse_bytes, "binary": parse_bytes, "date": parse_date, "date-time": parse_date_time, "time": parse_time,
    "duration": parse_duration, "timedelta": parse_duration,
}  # fmt: skip

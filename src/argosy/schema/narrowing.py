"""Which values of one JSON Schema do not fit another: the keywords that schema files may have, compared one by one.

What cannot be decided (`anyOf`, a changed `pattern`) counts as narrower, so that nothing that breaks is called safe.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from argosy_serving.schema.problems import step

Found = Iterator[tuple[str, str]]

_RANGES = {
    f"{sign}int{bits}": (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for bits in (8, 16, 32, 64)
    for sign in ("", "u")
}
_AT_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_AT_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_UNDECIDED = ("pattern", "multipleOf", "const", "uniqueItems", "anyOf", "allOf")
_FLOATS = {"float": 1, "double": 2}


def narrowed(wide: Any, narrow: Any, at: str, reverse: bool = False) -> list[tuple[str, str]]:
    """(pointer, what) of each place where a value that fits `wide` may not fit `narrow`; empty when all do.

    Sentences say "from `wide` to `narrow`", and the other way round with `reverse`.
    """
    return list(_compare(wide or {}, narrow or {}, at, reverse))


def _compare(wide: Mapping[str, Any], narrow: Mapping[str, Any], at: str, reverse: bool) -> Found:
    if wide == narrow:
        return
    lost = _types(wide) - _types(narrow)
    if "enum" not in wide and lost:
        yield at, _said(_shown(wide), _shown(narrow), reverse)
        return
    if _is_nullable(wide) and not _is_nullable(narrow):
        yield at, "null is allowed now" if reverse else "null is no longer allowed"
    yield from _enums(wide, narrow, at, reverse)
    yield from _formats(wide, narrow, at, reverse)
    yield from _bounds(wide, narrow, at, reverse)
    for keyword in _UNDECIDED:
        if keyword in narrow and wide.get(keyword) != narrow[keyword]:
            yield at, _said(f"{keyword} {wide.get(keyword)!r:.60}", f"{keyword} {narrow[keyword]!r:.60}", reverse)
    if "items" in narrow and "array" in _types(wide):
        yield from _compare(wide.get("items") or {}, narrow["items"] or {}, f"{at}/*", reverse)
    if "object" in _types(wide):
        yield from _objects(wide, narrow, at, reverse)


def _objects(wide: Mapping[str, Any], narrow: Mapping[str, Any], at: str, reverse: bool) -> Found:
    old, new = wide.get("properties", {}), narrow.get("properties", {})
    for name in narrow.get("required", []):
        if name not in wide.get("required", []):
            yield step(at, name), "no longer required" if reverse else "required now"
    closed, extra = narrow.get("additionalProperties", True), wide.get("additionalProperties", True)
    if closed is not True and extra is True:
        yield at, "further members are allowed now" if reverse else "further members are refused now"
    for name, inner in old.items():
        if name in new:
            yield from _compare(inner, new[name], step(at, name), reverse)
        elif closed is False:
            yield step(at, name), "new" if reverse else "removed, and unknown members are refused"
    for name, inner in new.items():
        # What was passed over before is looked at now.
        if name not in old and extra is not False and name not in narrow.get("required", []) and inner:
            yield step(at, name), "its type is free now" if reverse else "its type is checked now"
    if isinstance(closed, Mapping) and isinstance(extra, Mapping):
        yield from _compare(extra, closed, f"{at}/*", reverse)


def _enums(wide: Mapping[str, Any], narrow: Mapping[str, Any], at: str, reverse: bool) -> Found:
    if "enum" not in narrow:
        kinds = {_kind(value) for value in wide.get("enum", ())}
        if lost := kinds - _types(narrow):
            yield at, _said(_shown(wide), _shown(narrow), reverse) + f" ({', '.join(sorted(lost))})"
        return
    if "enum" not in wide:
        yield at, "any value is allowed now" if reverse else f"only {_listed(narrow['enum'])} are allowed now"
    elif gone := [value for value in wide["enum"] if value not in narrow["enum"]]:
        yield at, f"{_listed(gone)} {'new among' if reverse else 'no longer among'} the allowed values"


def _formats(wide: Mapping[str, Any], narrow: Mapping[str, Any], at: str, reverse: bool) -> Found:
    old, new = wide.get("format"), narrow.get("format")
    if old == new or new is None:
        return
    if new in _RANGES and "integer" in _types(wide):
        low, high = _RANGES.get(str(old), (float("-inf"), float("inf")))
        if _RANGES[new][0] > low or _RANGES[new][1] < high:
            yield at, _said(str(old or "any whole number"), str(new), reverse)
    elif new in _FLOATS:
        if _FLOATS.get(str(old), 1 if old in _RANGES else 2) > _FLOATS[new]:
            yield at, _said(str(old or "any number"), str(new), reverse)
    elif "string" in _types(wide):
        yield at, _said(str(old or "any string"), str(new), reverse)


def _bounds(wide: Mapping[str, Any], narrow: Mapping[str, Any], at: str, reverse: bool) -> Found:
    if narrow.get("minItems") is not None and narrow.get("minItems") == narrow.get("maxItems"):
        if (wide.get("minItems"), wide.get("maxItems")) != (narrow["minItems"], narrow["maxItems"]):
            old = wide.get("minItems") if wide.get("minItems") == wide.get("maxItems") else None
            yield (
                at,
                _said(f"{old if old is not None else 'any number of'} items", f"{narrow['minItems']} items", reverse),
            )
        return
    for keyword in (*_AT_LEAST, *_AT_MOST):
        old, new = wide.get(keyword), narrow.get(keyword)
        if new is None or isinstance(new, bool):
            if new and not old:  # draft 4: a flag beside minimum or maximum
                yield at, _said(f"not {keyword}", keyword, reverse)
        elif old is None or (new > old if keyword in _AT_LEAST else new < old):
            yield at, _said(f"{keyword} {'none' if old is None else old}", f"{keyword} {new}", reverse)


def _types(fragment: Mapping[str, Any]) -> set[str]:
    """JSON types that fit; a number may be whole."""
    given = fragment.get("type")
    if given is None and "enum" in fragment:
        return {_kind(value) for value in fragment["enum"]}
    if given is None:
        return {"boolean", "integer", "number", "string", "array", "object"}
    kinds = set(given) if isinstance(given, list) else {given}
    return (kinds | {"integer"} if "number" in kinds else kinds) - {"null"}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {int: "integer", float: "number", str: "string", list: "array", dict: "object", type(None): "null"}
    return names.get(type(value), "string")


def _is_nullable(fragment: Mapping[str, Any]) -> bool:
    kinds = fragment.get("type")
    free = kinds is None and "enum" not in fragment
    listed = isinstance(kinds, list) and "null" in kinds
    return (
        free
        or listed
        or bool(fragment.get("nullable") or fragment.get("x-nullable"))
        or (None in fragment.get("enum", ()))
    )


def _shown(fragment: Mapping[str, Any]) -> str:
    """A fragment in a word or two: `array of array of double`."""
    if "enum" in fragment:
        return f"one of {_listed(fragment['enum'])}"
    kind = fragment.get("type")
    if kind == "array":
        return f"array of {_shown(fragment.get('items') or {})}"
    if isinstance(kind, list):
        return " or ".join(kind)
    return str(fragment.get("format") or kind or "anything")


def _listed(values: list[Any]) -> str:
    shown = ", ".join(repr(value) for value in values[:5])
    return f"{shown} and {len(values) - 5} more" if len(values) > 5 else shown


def _said(old: str, new: str, reverse: bool) -> str:
    return f"from {new} to {old}" if reverse else f"from {old} to {new}"

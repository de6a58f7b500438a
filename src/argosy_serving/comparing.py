"""How two JSON values differ."""

import math
from typing import Any


def differs(expected: Any, received: Any, relative: float, absolute: float, at: str = "") -> str:
    """Where and how two JSON values differ, '' when they do not. Numbers may differ by either tolerance."""
    numbers = (int, float)
    plain = isinstance(expected, numbers) and not isinstance(expected, bool) and not isinstance(received, bool)
    if not plain and type(expected) is not type(received):
        return f"{at or 'the answer'}: expected {expected!r:.100}, received {received!r:.100}"
    if isinstance(expected, dict):
        if expected.keys() != received.keys():
            return f"{at or 'the answer'}: expected members {sorted(expected)}, received {sorted(received)}"
        pairs = [(f"{at}/{key}", expected[key], received[key]) for key in expected]
    elif isinstance(expected, list):
        if len(expected) != len(received):
            return f"{at or 'the answer'}: expected {len(expected)} items, received {len(received)}"
        pairs = [(f"{at}/{n}", one, other) for n, (one, other) in enumerate(zip(expected, received, strict=True))]
    else:
        if isinstance(expected, numbers) and isinstance(received, numbers) and plain:
            same = math.isclose(expected, received, rel_tol=relative, abs_tol=absolute)
        else:
            same = expected == received
        return "" if same else f"{at or 'the answer'}: expected {expected!r:.100}, received {received!r:.100}"
    return next((found for where, one, other in pairs if (found := differs(one, other, relative, absolute, where))), "")

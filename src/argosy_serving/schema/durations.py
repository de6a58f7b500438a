"""Durations in text: `5 days`, `1 days 02:30:00.5`, `-00:01:00`, and ISO 8601 without years and months (`P1DT2H`)."""

import datetime
import re
from typing import Any

from argosy_serving.schema.problems import InvalidInput, describe

NANOSECONDS = {
    "D": 86_400 * 10**9, "h": 3_600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1,
}  # fmt: skip

_PLAIN = re.compile(
    r"(?P<sign>[+-])?\s*(?:(?P<days>\d{1,9})\s*(?:days?|d|D))?\s*(?P<comma>,?)\s*"
    r"(?:(?P<minus>[+-])?(?P<hours>\d{1,9}):(?P<minutes>[0-5]?\d):(?P<seconds>[0-5]?\d)(?:[.](?P<fraction>\d{1,9}))?)?",
    re.ASCII,
)
_ISO = re.compile(
    r"(?P<sign>[+-])?P(?:(?P<weeks>\d{1,7})W)?(?:(?P<days>\d{1,9})D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d{1,9})H)?(?:(?P<minutes>\d{1,9})M)?"
    r"(?:(?P<seconds>\d{1,9})(?:[.](?P<fraction>\d{1,9}))?S)?)?",
    re.ASCII,
)


def duration_ns(value: Any, at: str) -> int:
    """Nanoseconds; raises InvalidInput."""
    form = (_PLAIN.fullmatch(value) or _ISO.fullmatch(value)) if isinstance(value, str) else None
    part = form.groupdict() if form else {}
    if not any(part.get(name) for name in ("weeks", "days", "hours", "minutes", "seconds")):
        raise InvalidInput(at, "a duration such as '5 days' or '01:30:00'", describe(value))
    days = int(part["days"] or 0) + 7 * int(part.get("weeks") or 0)
    clock = 60 * (60 * int(part["hours"] or 0) + int(part["minutes"] or 0)) + int(part["seconds"] or 0)
    clock_ns = clock * 10**9 + int(f"{part['fraction'] or '':0<9}")
    # An hour less than none is "-1 days +23:00:00" to pandas and "-1 day, 23:00:00" to datetime.
    negative = part["sign"] == "-"
    if negative and part["days"] and (part.get("minus") == "+" or part.get("comma")):
        return clock_ns - days * NANOSECONDS["D"]
    total = days * NANOSECONDS["D"] + (-clock_ns if part.get("minus") == "-" else clock_ns)
    return -total if negative else total


def parse_duration(text: str, at: str) -> datetime.timedelta:
    """Digits beyond a microsecond cannot be kept by timedelta; they are refused."""
    nanoseconds = duration_ns(text, at)
    try:
        if nanoseconds % 1000 == 0:
            return datetime.timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        pass
    raise InvalidInput(at, "a duration in whole microseconds, below 2.7 million years", describe(text))

"""Text that is safe to show: what comes from models, logs and servers may hold control sequences for the terminal."""

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160), 0x2028, 0x2029, *range(0x202A, 0x202F))}
_KEEP_LINES = {code: text for code, text in _ESCAPES.items() if code not in (9, 10)}


def clean(value: object, *, lines: bool = False) -> str:
    """Control characters and direction overrides as visible escapes; `lines` lets tabs and newlines pass."""
    return str(value).translate(_KEEP_LINES if lines else _ESCAPES)


def size(size_bytes: int) -> str:
    """`12.3 MB`, in powers of 1000."""
    amount, unit = float(size_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{int(amount)} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def moment(timestamp: str | None) -> str:
    """An ISO 8601 time to the second."""
    return (timestamp or "")[:19].replace("T", " ")


def pairs(values: dict[str, object]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())

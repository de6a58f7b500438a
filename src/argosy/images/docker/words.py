"""Words of a Dockerfile: parted at blanks outside quotes, and with their quotes, escapes and variables resolved."""

import re
from collections.abc import Mapping

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::([-+])([^}]*))?\}|([A-Za-z_]\w*))")


def split(text: str) -> list[str]:
    """The words as they are written. Raises ValueError for a quote that is never closed."""
    words: list[str] = []
    word, quote, escaped, inside = "", "", False, False
    for char in text:
        if escaped or (char == "\\" and quote != "'"):
            escaped = not escaped
        elif quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char.isspace():
            if inside:
                words.append(word)
            word, inside = "", False
            continue
        word, inside = word + char, True
    if quote:
        raise ValueError(f"the quote {quote} is never closed")
    return [*words, word] if inside else words


def expand(word: str, variables: Mapping[str, str]) -> str:
    """Without quotes and escapes, `$NAME`, `${NAME}`, `${NAME:-x}` and `${NAME:+x}` replaced. Raises ValueError."""
    out, quote, at = "", "", 0
    while at < len(word):
        char = word[at]
        if char == "\\" and quote != "'" and at + 1 < len(word):
            kept = "\\" if quote and word[at + 1] not in '"$\\' else ""
            out, at = out + kept + word[at + 1], at + 2
        elif char in "\"'" and quote in ("", char):
            quote, at = "" if quote else char, at + 1
        elif char == "$" and quote != "'":
            match = _VARIABLE.match(word, at)
            if match is None:
                raise ValueError("write $NAME, ${NAME}, ${NAME:-value}, ${NAME:+value}, or \\$ for the sign itself")
            out, at = out + _value(match, variables), match.end()
        else:
            out, at = out + char, at + 1
    return out


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    value = variables.get(match[1] or match[4], "")
    if match[2] == "-":
        return value or match[3]
    if match[2] == "+":
        return match[3] if value else ""
    return value

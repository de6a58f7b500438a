"""Secrets by reference: `env:NAME` (of the control plane) or `file:/absolute/path`. Looked up when a replica starts,
never stored."""

from collections.abc import Mapping
from pathlib import Path

from argosy.errors import InvalidOption


def look_up(secrets: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Values by variable name. InvalidOption names the secret and where it was looked for, never a value."""
    values = {}
    for name, reference in secrets.items():
        kind, _, rest = reference.partition(":")
        if kind == "env":
            if rest not in environ:
                raise InvalidOption(
                    f"secret {name}", reference, f"the control plane's environment has no variable {rest}"
                )
            values[name] = environ[rest]
        else:
            try:
                values[name] = Path(rest).read_text().rstrip("\n")
            except OSError as problem:
                raise InvalidOption(f"secret {name}", reference, f"the file cannot be read ({problem})") from None
            except UnicodeDecodeError:
                raise InvalidOption(f"secret {name}", reference, "the file is no UTF-8 text") from None
        if "\0" in values[name]:
            raise InvalidOption(f"secret {name}", reference, "the value has a zero byte, which no variable can hold")
    return values

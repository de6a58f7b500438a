"""Environment variables of a replica: plain ones by value, secrets by reference."""

from collections.abc import Mapping

from argosy.errors import InvalidOption

# What tells a replica where it is; a user's value would break it.
_RESERVED = ("PYTHONPATH", "ARGOSY_MODEL_DIR", "AZUREML_MODEL_DIR", "VIRTUAL_ENV", "PYTHONHOME")


def check_variables(option: str, variables: Mapping[str, str]) -> None:
    """Environment variables that a process can be given, none of them reserved."""
    for name, value in variables.items():
        if not name.replace("_", "a").isalnum() or name[0].isdigit() or not name.isascii():
            raise InvalidOption(option, name, "a variable's name has letters, digits and '_' and starts with no digit")
        if "\0" in value:
            raise InvalidOption(option, name, "a variable's value cannot hold a zero byte")
        if any(0xD800 <= ord(character) <= 0xDFFF for character in value):
            raise InvalidOption(option, name, "the variable's value has half a character")
        if name in _RESERVED:
            raise InvalidOption(option, name, "this variable is set by Argosy and cannot be overridden")


def check_references(secrets: Mapping[str, str]) -> None:
    """Secrets are `env:NAME` (a variable of the control plane) or `file:/absolute/path`."""
    check_variables("secrets", dict.fromkeys(secrets, ""))
    for name, reference in secrets.items():
        kind, _, rest = reference.partition(":")
        if kind not in ("env", "file") or not rest or (kind == "file" and not rest.startswith("/")):
            raise InvalidOption(
                f"--secret {name}", reference, "write env:NAME for a variable of the control plane or file:/path"
            )

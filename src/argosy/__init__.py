"""Argosy takes a trained model to a REST service. `argosy.connect()` is the way in.

The names below are imported when they are first used: every command of the command line imports this package, and
`argosy --help` must not pay for an HTTP client.
"""

from __future__ import annotations

# Known to type checkers by its name; the module typing itself is a tenth of what `argosy --help` may cost.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from argosy import schema
    from argosy.errors import Error
    from argosy.sdk.aio import AsyncClient
    from argosy.sdk.client import Client, connect

__version__ = "0.1.0"

__all__ = ["AsyncClient", "Client", "Error", "__version__", "connect", "schema"]


_MODULES = {
    "AsyncClient": "argosy.sdk.aio",
    "Client": "argosy.sdk.client",
    "Error": "argosy.errors",
    "connect": "argosy.sdk.client",
    "schema": "argosy.schema",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'argosy' has no attribute {name!r}")
    import importlib

    module = importlib.import_module(_MODULES[name])
    found = module if name == "schema" else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__

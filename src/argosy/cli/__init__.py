"""The command line: one file a noun, each turning arguments into SDK calls and their records into tables or JSON.

Only the noun that was asked for is imported and its parser built; `app` holds the table of them.
"""

from argosy.cli.app import main

__all__ = ["main"]

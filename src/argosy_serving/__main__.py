"""`python -m argosy_serving <spec.json>`: run one replica until it is drained."""

import sys
from pathlib import Path

from argosy_serving import __version__
from argosy_serving.replica import run


def main(arguments: "list[str]") -> int:
    if arguments == ["--version"]:
        print(__version__)
        return 0
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m argosy_serving SPEC.json", file=sys.stderr)
        return 2
    return run(Path(arguments[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

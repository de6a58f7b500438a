"""`python -m argosy_serving <spec.json>`: run one replica until it is drained.

Without a spec, in a container, what it would hold comes from environment variables; see `container.py`.
"""

import os
import sys
from pathlib import Path

from argosy_serving import __version__, container
from argosy_serving.replica import NOT_READY, run
from argosy_serving.spec import InvalidSpec


def main(arguments: "list[str]") -> int:
    if arguments == ["--version"]:
        print(__version__)
        return 0
    if not arguments and os.environ.get(container.IMAGE):
        try:
            spec = container.write_orders(os.environ)
        except InvalidSpec as problem:
            print(f"argosy_serving: {problem}", file=sys.stderr)
            return NOT_READY
        return run(spec)
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m argosy_serving SPEC.json", file=sys.stderr)
        return 2
    return run(Path(arguments[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

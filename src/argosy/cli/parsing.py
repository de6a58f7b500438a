"""argparse as this command line uses it: exit code 1, a guess at what a mistyped word meant, examples in `--help`.

Imports nothing but argparse, since `argosy --help` pays for it.
"""

from __future__ import annotations

import argparse
import os
import re

TYPE_CHECKING = False  # see argosy/__init__.py
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, NoReturn

    Handler = Callable[[Any, Any], int | None]


class UsageError(Exception):
    """A command line that cannot be understood; the message is complete."""


class Parser(argparse.ArgumentParser):
    """`examples` are command lines shown at the end of `--help`."""

    def __init__(self, *, prog: str, description: str = "", examples: Sequence[str] = ()) -> None:
        epilog = "examples:\n" + "\n".join(f"  {line}" for line in examples) if examples else None
        super().__init__(
            prog=prog, description=description, epilog=epilog, formatter_class=Formatter, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        raise self.usage_error(message)

    def usage_error(self, message: str) -> UsageError:
        return UsageError(f"{message}\nSee `{self.prog} --help`.")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            what = "command" if isinstance(action, argparse._SubParsersAction) else "value"
            raise argparse.ArgumentError(
                None if what == "command" else action,
                f"there is no {what} {value!r}{guess(str(value), choices)} Choose from: {', '.join(choices)}.",
            )

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The arguments; raises UsageError for options and words that nobody takes."""
        args, unknown = self.parse_known_args(list(argv))
        if not unknown:
            return args
        leaf: Parser = getattr(args, "leaf", self)
        option = next((word for word in unknown if word.startswith("-")), None)
        if option is None:
            raise leaf.usage_error(f"unexpected argument {unknown[0]!r}.")
        known = [name for action in leaf._actions for name in action.option_strings]
        raise leaf.usage_error(
            f"there is no option {option.partition('=')[0]} here{guess(option.partition('=')[0], known)}"
        )


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Options wide enough to stand beside their help; never wider than 110 columns, for one look everywhere."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=max(60, min(_columns() - 2, 110)))

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            # argparse forgets that the names of commands are indented once more.
            self._action_max_length += self._indent_increment


def _columns() -> int:
    """Of the terminal. As shutil.get_terminal_size, whose module costs two milliseconds."""
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(1).columns)
    except (OSError, ValueError):
        return 102


def guess(word: str, known: Iterable[str]) -> str:
    """` Did you mean ...?`, or a full stop."""
    import difflib  # only a mistake pays for it

    close = difflib.get_close_matches(word, list(known), n=2, cutoff=0.6)
    return f". Did you mean {' or '.join(close)}?" if close else "."


def commands(parser: argparse.ArgumentParser) -> argparse._SubParsersAction[Parser]:
    return parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser, required=False)


def leaf(
    group: argparse._SubParsersAction[Parser],
    name: str,
    summary: str,
    handler: Handler,
    examples: Sequence[str],
    details: str = "",
) -> Parser:
    """A command that does something, with `-o`."""
    description = summary + (f"\n\n{details}" if details else "")
    parser = group.add_parser(name, help=summary, description=description, examples=examples)
    finish(parser, handler)
    return parser


def finish(parser: Parser, handler: Handler) -> None:
    parser.set_defaults(handler=handler, leaf=parser)
    parser.add_argument(
        "-o", "--output", choices=("table", "json", "yaml"), default="table", help="how to print the result (table)"
    )


def wait_option(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=True,
        help=f"wait until {what} (the default), or answer with the operation at once",
    )


def file_argument(action: argparse.Action) -> None:
    """Marks an argument as a path for shell completion."""
    action.complete = {  # type: ignore[attr-defined]
        "bash": "_shtab_compgen_files",
        "zsh": "_files",
        "tcsh": "f",
        "fish": "__fish_complete_path",
    }


class Collect(argparse.Action):
    """Repeated `K=V` into one dict; the last value of a key wins."""

    def __init__(
        self,
        option_strings: Sequence[str],
        dest: str,
        metavar: str = "K=V",
        help: str | None = None,  # noqa: A002 (argparse's word)
        convert: Callable[[str], Any] = str,
    ) -> None:
        self._convert = convert
        super().__init__(option_strings, dest, default={}, metavar=metavar, help=help)

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        key, mark, value = str(values).partition("=")
        if not mark or not key:
            # What was typed may be a secret's value, so it is not repeated.
            parser.error(f"{option} wants KEY=VALUE.")
        try:
            converted = self._convert(value)
        except ValueError:
            parser.error(f"{option} {key}: {value!r} is no number.")
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), key: converted})


def positive(text: str) -> int:
    return _whole(text, 1)


def natural(text: str) -> int:
    return _whole(text, 0)


def port(text: str) -> int:
    number = _whole(text, 0)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: write 0 to 65535, 0 for a free one")
    return number


def _whole(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least}")
    return number


def rate(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of requests a second, such as 0.5 or 200")
    return number


def cores(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of cores, such as 0.5 or 2")
    return number


def memory(text: str) -> int:
    """Bytes of 512M, 1.5G, 2Gi or a plain number; K, M and G are powers of 1024, as container engines have them."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B?)", text.strip(), re.IGNORECASE)
    if match is None or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no size, such as 512M or 2G")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def overload_status(text: str) -> int:
    if text not in ("429", "503"):
        raise argparse.ArgumentTypeError(f"{text!r}: write 429 or 503")
    return int(text)


def log_level(text: str) -> str:
    if text.lower() not in ("debug", "info", "warning", "error"):
        raise argparse.ArgumentTypeError(f"{text!r}: write debug, info, warning or error")
    return text.lower()


def truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r}: write true or false")
    return text.lower() == "true"

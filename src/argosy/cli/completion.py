"""`argosy completion SHELL`: the script that completes commands, options and files."""

import argparse

from argosy.cli.parsing import Parser, finish
from argosy.cli.session import Session

SHELLS = ("bash", "zsh", "fish", "tcsh")


def build(parser: Parser, name: str) -> None:
    parser.epilog = (
        "examples:\n"
        "  argosy completion bash > ~/.local/share/bash-completion/completions/argosy\n"
        "  argosy completion zsh > ~/.zfunc/_argosy        # a folder of your fpath\n"
        "  argosy completion fish > ~/.config/fish/completions/argosy.fish"
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell to complete in")
    finish(parser, show)


def show(args: argparse.Namespace, session: Session) -> None:
    # Imported here: completing needs every command's parser, and shtab.
    import shtab

    from argosy.cli.app import build as whole

    script = shtab.complete(whole(), shell=args.shell)
    session.show({"shell": args.shell, "script": script}, lambda: [script])

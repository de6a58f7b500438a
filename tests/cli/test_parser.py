"""Every command: known words in, a handler out; help with examples; mistakes answered with a guess and exit code 1."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from argosy.cli.app import COMMANDS, build
from argosy.cli.parsing import Parser, UsageError
from cli.conftest import Argosy

GOLDEN = Path(__file__).with_name("help.txt")


def leaves(parser: argparse.ArgumentParser) -> Iterator[Parser]:
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        assert isinstance(parser, Parser)
        yield parser
    for group in groups:
        for inner in group.choices.values():
            yield from leaves(inner)


ALL = list(leaves(build()))


def test_the_commands_are_these() -> None:
    assert [name for name, *_ in COMMANDS] == [
        "up", "down", "server", "status", "doctor", "version", "completion", "serve", "schema", "model", "manifest",
        "image", "gc", "env", "service",
    ]  # fmt: skip
    assert sorted(leaf.prog.removeprefix("argosy ") for leaf in ALL) == sorted(
        ["up", "down", "server", "status", "doctor", "version", "completion", "serve"]
        + ["schema infer", "schema diff", "manifest test", "image login", "image logout", "image save"]
        + ["image push", "image pull", "image load", "gc", "image dockerfile", "image logs", "image usage"]
        + ["image run", "env use", "env check"]
        + [f"model {verb}" for verb in ("register", "list", "show", "download", "alias", "tag", "delete")]
        + [f"{noun} {verb}" for noun in ("manifest", "image", "env") for verb in ("create", "list", "show", "delete")]
        + [f"service {verb}" for verb in ("create", "update", "list", "show", "run", "usage", "keys", "logs", "history",
                                          "rollback", "scale", "tune", "wait", "delete")]
    )  # fmt: skip


@pytest.mark.parametrize("leaf", ALL, ids=lambda leaf: leaf.prog)
def test_every_command_has_help_examples_and_output_formats(leaf: Parser) -> None:
    text = leaf.format_help()
    assert f"examples:\n  {leaf.prog}" in text
    assert leaf.description
    assert ("--output" in text) == (leaf.prog not in ("argosy server", "argosy serve"))
    assert callable(leaf.get_default("handler"))


@pytest.mark.parametrize("leaf", ALL, ids=lambda leaf: leaf.prog)
def test_examples_are_command_lines_that_parse(leaf: Parser) -> None:
    import shlex

    _, _, examples = leaf.format_help().partition("examples:\n")
    for line in examples.splitlines():
        words = shlex.split(line.partition("#")[0].rpartition("|")[2].partition(" > ")[0])
        assert words[0] == "argosy"
        build(words[1:]).parse(words[1:])


def test_the_help_is_golden(
    argosy: Argosy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as end:
        argosy("--help")
    assert end.value.code == 0
    assert capsys.readouterr().out == GOLDEN.read_text()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("modle list", "no command 'modle'. Did you mean model?"),
        ("model lst", "no command 'lst'. Did you mean list?"),
        ("xyzzy", "no command 'xyzzy'. Choose from: up, down"),
        ("model list --tga a=b", "no option --tga here. Did you mean --tag?"),
        ("service scale iris --replica=3 -z 2", "no option --replica here. Did you mean --replicas?"),
        ("model list extra", "unexpected argument 'extra'"),
        ("model register x", "-n/--name"),
        ("model register x -n y -t novalue", "-t wants KEY=VALUE"),
        ("model register x -n y --metric acc=high", "'high' is no number"),
        ("model list -o xml", "no value 'xml'"),
        ("service scale iris -z -1", "no whole number from 0"),
        ("service scale iris", "-z/--replicas"),
        ("service create x --cpu 0", "no number of cores"),
        ("service create x --public-docs yes", "write true or false"),
        ("service keys x --show primary --regenerate primary", "not allowed with"),
        ("up --port 70000", "no port"),
        ("up --tls-cert x", "--tls-key belong together"),
        ("completion powershell", "no value 'powershell'"),
        ("service create x", "-f score.py"),
        ("image create -n x", "--manifest MANIFEST, or"),
        ("image login registry.example.com", "-u USER"),
        ("image login registry.example.com --password-stdin --plain-http", "-u USER"),
        ("image login registry.example.com -u ann", "--password-stdin"),
        ("manifest create -f score.py", "-n NAME is missing"),
        ("model tag iris:1", "nothing to change"),
        ("model tag iris:1 stage", "no tag"),
    ],
)
def test_usage_errors(argosy: Argosy, line: str, said: str) -> None:
    ran = argosy(*line.split())
    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_a_secret_typed_by_mistake_is_not_repeated(argosy: Argosy) -> None:
    ran = argosy("service", "create", "x", "--image", "i", "--secret", "hunter2")
    assert "hunter2" not in ran.err


@pytest.mark.parametrize("words", [(), ("model",), ("service",)])
def test_a_command_that_is_not_finished_shows_its_help(argosy: Argosy, words: tuple[str, ...]) -> None:
    ran = argosy(*words)
    assert ran.code == 1
    assert ran.out.startswith("usage: " + " ".join(("argosy", *words)))


def test_values_that_are_numbers_or_pairs() -> None:
    line = "service create iris -m a -m b -e A=1 -e B=x=y -z 0 --cpu 0.5 --public-docs TRUE --no-wait"
    args = build(["service"]).parse(line.split(" "))
    assert (args.model_file, args.variable, args.replicas) == (["a", "b"], {"A": "1", "B": "x=y"}, 0)
    assert (args.cpu, args.public_docs, args.wait) == (0.5, True, False)
    assert build(["service"]).parse(["service", "create", "iris"]).variable == {}


def test_only_the_noun_asked_for_is_built() -> None:
    with pytest.raises(UsageError):
        build(["model"]).parse(["image", "list"])

"""The steps of `--docker-steps`: RUN, ENV, ARG, LABEL, EXPOSE and COPY of a manifest's files, as Docker reads them.

Everything else is refused with its line before anything starts: what the image stands on, starts with and runs as is
Argosy's, and what a step could fetch from outside the manifest would not be known of the image.
"""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from argosy.errors import InvalidFile
from argosy.images.docker.words import expand, split

_REFUSED = {
    "FROM": "the base is chosen with --base",
    "CMD": "the image starts the scoring server",
    "ENTRYPOINT": "the image starts the scoring server",
    "USER": "steps run as root, and the image as user 65532",
    "WORKDIR": "write RUN cd FOLDER && ..., and absolute targets in COPY",
    "ADD": "write COPY for a file of the manifest, or fetch it with RUN",
    "SHELL": 'write RUN ["/bin/bash", "-c", "..."]',
    "VOLUME": "replicas keep nothing",
    "HEALTHCHECK": "the scoring server answers /livez and /readyz",
    "STOPSIGNAL": "the scoring server drains on SIGTERM",
    "ONBUILD": "nothing is built on this image",
    "MAINTAINER": "write LABEL org.opencontainers.image.authors=...",
}
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp))?")
_HEREDOC = re.compile(r"(?:^|[\s\d;&|(])<<-?\s*\\?[\"']?[A-Za-z_]")
_QUOTED = re.compile(r"""\$\(\(.*?\)\)|'[^']*'|(?<!<)"(?:\\.|[^"\\])*\"""")
_OURS = ("/opt/argosy", "/dev", "/proc", "/sys")


@dataclass(frozen=True)
class Step:
    """One instruction. `text` is it in one line; `words` are a RUN's command, a COPY's paths, or words as written."""

    line: int
    instruction: str
    words: tuple[str, ...]
    text: str


class _Refused(Exception):
    """Why one line cannot be used."""


def parse(text: str, where: str) -> list[Step]:
    """Raises InvalidFile that names every line which cannot be used."""
    steps, problems = [], []
    for line, logical in _logical_lines(text):
        try:
            steps.append(_step(line, logical))
        except (_Refused, ValueError) as problem:
            problems.append(f"line {line}: {problem}")
    if problems:
        raise InvalidFile(where, "; ".join(problems))
    if not steps:
        raise InvalidFile(
            where, "has no steps. Leave --docker-steps out, or write RUN, ENV, ARG, LABEL, EXPOSE or COPY"
        )
    return steps


def check_sources(steps: Collection[Step], files: Collection[str], where: str) -> None:
    """Raises InvalidFile when a COPY names what is no file or folder of the manifest (`files`: their paths)."""
    problems = [
        f"line {step.line}: the manifest has no file {source!r} (it has: {', '.join(sorted(files))})"
        for step in steps
        if step.instruction == "COPY"
        for source in step.words[:-1]
        if not sources_of(source, files)
    ]
    if problems:
        raise InvalidFile(where, "; ".join(problems) + ". Add files to the manifest with -D")


def sources_of(source: str, files: Collection[str]) -> dict[str, str]:
    """The manifest's files that a COPY's source means: their path, and what remains of it below the target."""
    plain = source.rstrip("/").removeprefix("./")
    if plain in files:
        return {plain: plain.rpartition("/")[2]}
    folder = "" if plain in (".", "") else f"{plain}/"
    return {path: path.removeprefix(folder) for path in sorted(files) if path.startswith(folder)}


def is_ours(path: str) -> bool:
    """Whether no COPY may put anything there."""
    return any(path.rstrip("/") == ours or path.startswith(f"{ours}/") for ours in _OURS)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number of the first line, the instruction in one line), without comments and empty lines."""
    begun, parts = 0, ""
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            if re.fullmatch(r"#\s*escape\s*=.*", bare):
                yield number, "# escape"
            continue
        begun = begun or number
        if bare.endswith("\\"):
            parts += line.rstrip()[:-1]
        else:
            yield begun, (parts + line).strip()
            begun, parts = 0, ""
    if begun:
        yield begun, parts.strip() + " \\"


def _step(line: int, text: str) -> Step:
    if "\0" in text:
        raise _Refused("it holds a NUL character")
    if text.startswith("#"):
        raise _Refused("only the backslash continues a line")
    if text.endswith(" \\"):
        raise _Refused("the last line ends in a backslash, and nothing follows")
    word, rest = (*text.split(None, 1), "")[:2]
    name = word.upper()
    if name in _REFUSED:
        raise _Refused(f"{name} cannot be used here: {_REFUSED[name]}")
    if name not in _READERS:
        raise _Refused(f"{word[:40]!r} is no instruction; there are {', '.join(_READERS)}")
    if not rest:
        raise _Refused(f"{name} says nothing")
    if rest.startswith("--") and name in ("RUN", "COPY"):
        raise _Refused(f"{name} {rest.split()[0].partition('=')[0]} cannot be used here: leave options out")
    return Step(line, name, tuple(_READERS[name](rest)), f"{name} {rest}")


def _run(rest: str) -> list[str]:
    if (words := _json_words(rest)) is not None:
        return words
    if _HEREDOC.search(_QUOTED.sub("", rest)):
        raise _Refused("here-documents are not read: join commands with && and a backslash, or COPY a script")
    return ["/bin/sh", "-c", rest]


def _copy(rest: str) -> list[str]:
    words = _json_words(rest) or split(rest)
    if len(words) < 2:
        raise _Refused("COPY needs a file and where it goes")
    if any(char in word for word in words for char in "$*?[]\\\"'"):
        raise _Refused('COPY takes plain paths: no variables, patterns or quotes (quotes only as ["from", "to"])')
    *sources, target = words
    for source in sources:
        if source.startswith("/") or "://" in source:
            raise _Refused(f"{source!r} is no file of the manifest: write its path as `argosy manifest show` has it")
    if any(".." in word.split("/") for word in words):
        raise _Refused("COPY cannot lead upwards with '..'")
    if not target.startswith("/"):
        raise _Refused(f"the target {target!r} must be absolute")
    if is_ours(target):
        raise _Refused(f"nothing can be put into {target!r}; the scripts of the manifest are in the image anyway")
    if len(sources) > 1 and not target.endswith("/"):
        raise _Refused(f"the target of several files is a folder: write {target}/")
    return words


def _pairs(rest: str) -> list[str]:
    """`NAME=value` words, also of `NAME value`."""
    words = split(rest)
    if "=" not in words[0] and len(words) > 1:
        words = [f"{words[0]}={rest[len(words[0]) :].strip()}"]
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise _Refused(f"{word!r} has no value: write {word}=VALUE")
        expand(name, {})
        expand(value, {})
    return words


def _environment(rest: str) -> list[str]:
    words = _pairs(rest)
    for word in words:
        name = word.partition("=")[0]
        if not _NAME.fullmatch(name):
            raise _Refused(f"{name!r} is no name of a variable")
        if name == "ARGOSY_KEYS":
            raise _Refused("keys never lie in an image: give ARGOSY_KEYS to the container")
    return words


def _expose(rest: str) -> list[str]:
    for word in rest.split():
        match = _PORT.fullmatch(word)
        if match is None or not all(0 < int(port) < 65536 for port in match.groups()[:2] if port):
            raise _Refused(f"{word!r} is no port: write 8080, 8080/udp or 8080-8090")
    return rest.split()


def _json_words(rest: str) -> list[str] | None:
    """The words of the form `["a", "b"]`, None when it is not that."""
    if not rest.startswith("["):
        return None
    try:
        words = json.loads(rest)
    except ValueError:
        return None
    return words if words and all(isinstance(word, str) for word in words) else None


_READERS = {
    "RUN": _run,
    "ENV": _environment,
    "ARG": _environment,
    "LABEL": _pairs,
    "EXPOSE": _expose,
    "COPY": _copy,
}

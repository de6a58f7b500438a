"""Reads a requirements file, as far as it can be honoured: packages of an index, never files, links or source.

What is refused is refused with its line and the reason, because a manifest must be reproducible from what was
uploaded, and because building a source distribution would run its code in the control plane.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as IndexRequirement

from argosy.manifests.dependencies import Dependencies, Requirement, unusable

# Linear in the length of a line, however many blanks a hostile one has.
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*$")
_LONGEST_FILE_CHARS, _LONGEST_LINE_CHARS = 1_000_000, 2000
_HASH = re.compile(r"\s--hash(?:=|\s+)(\S+)")
_HASH_VALUE = re.compile(r"sha(256|384|512):[0-9a-f]{64,128}")
_OPTION = re.compile(r"(--?[A-Za-z][A-Za-z-]*)(?:\s*=\s*|\s+)?(.*)")
_LINK = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(git|hg|svn|bzr)\+|@\s*(file:|\S+:/)")
_PATH = re.compile(r"\.{0,2}/|\.{1,2}$|~|[A-Za-z]:\\|\S+\.(whl|zip|tar\.gz|tgz|tar\.bz2)(\s|\[|;|$)")

_REFUSED = {
    "-r": "other files are not uploaded; write its requirements into this one",
    "--requirement": "other files are not uploaded; write its requirements into this one",
    "-c": "other files are not uploaded; write its constraints as requirements into this one",
    "--constraint": "other files are not uploaded; write its constraints as requirements into this one",
    "-e": "an editable install is a folder of your machine; add it with -D FOLDER instead",
    "--editable": "an editable install is a folder of your machine; add it with -D FOLDER instead",
    "-f": "links and folders cannot be locked; use an index with --extra-index-url",
    "--find-links": "links and folders cannot be locked; use an index with --extra-index-url",
    "--no-index": "the lock is made from an index",
    "--no-binary": "only wheels are installed: building from source would run its code in the control plane",
    "--trusted-host": "an index is always verified; put its certificate into SSL_CERT_FILE of the control plane",
}
_WITHOUT_EFFECT = ("--prefer-binary", "--only-binary", "--require-hashes", "--use-feature", "--no-cache-dir")


@dataclass
class _Found:
    requirements: list[Requirement] = field(default_factory=list)
    index_url: str = ""
    extra_index_urls: list[str] = field(default_factory=list)
    prerelease: bool = False
    notes: list[str] = field(default_factory=list)


def parse_requirements(text: str, file: str = "requirements.txt") -> Dependencies:
    """Raises InvalidDependencies with the line of the first thing that cannot be honoured."""
    if len(text) > _LONGEST_FILE_CHARS:
        raise unusable(file, 0, f"a requirements file of more than {_LONGEST_FILE_CHARS:,} characters is not read")
    return read_lines(_logical_lines(text), file)


def read_lines(lines: Iterator[tuple[int, str]], file: str) -> Dependencies:
    """The same for (line number, line) pairs, as the `pip:` part of a conda file has them."""
    found = _Found()
    for number, line in lines:
        if not line:
            continue
        if len(_HASH.sub("", line)) > _LONGEST_LINE_CHARS:
            raise unusable(file, number, f"a line of more than {_LONGEST_LINE_CHARS:,} characters is not read")
        if "${" in line:
            raise unusable(file, number, f"variables are not filled in: {_shown(line)}. Write the value.")
        if line.startswith("-"):
            _read_option(found, line, file, number)
        else:
            found.requirements.append(_read_requirement(line, file, number))
    return Dependencies(
        requirements=tuple(found.requirements),
        index_url=found.index_url,
        extra_index_urls=tuple(found.extra_index_urls),
        prerelease=found.prerelease,
        notes=tuple(found.notes),
    )


def without_comment(line: str) -> str:
    """A `#` begins a comment at the start of a line or after a blank."""
    return _COMMENT.sub("", line).strip()


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines joined at a backslash, without comments; the number is that of the first one."""
    start, parts = 0, ""
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        start = start or number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            parts += raw[:-1].lstrip() if parts else raw[:-1]
            continue
        parts += raw
        yield start, without_comment(parts)
        start, parts = 0, ""
    if parts:
        yield start, without_comment(parts)


def _read_requirement(line: str, file: str, number: int) -> Requirement:
    hashes = tuple(_HASH.findall(line))
    for value in hashes:
        if not _HASH_VALUE.fullmatch(value):
            raise unusable(file, number, f"{value[:100]!r} is no hash. Write --hash=sha256:<64 hex digits>.")
    wish = _HASH.sub("", line).strip()
    if _LINK.search(wish) or _PATH.match(wish):
        raise unusable(
            file,
            number,
            f"{_shown(wish)} is a link or a file, and only packages of an index can be locked with their hashes. "
            "Publish it on an index and name that with --extra-index-url, or add its folder with -D.",
        )
    try:
        parsed = IndexRequirement(wish)
    except InvalidRequirement as problem:
        reason = str(problem).splitlines()[0]
        raise unusable(
            file, number, f"{_shown(wish)} is no requirement ({reason}). Write it like numpy>=1.26,<2."
        ) from problem
    return Requirement(str(parsed), file, number, line[:300], hashes)


def _read_option(found: _Found, line: str, file: str, number: int) -> None:
    match = _OPTION.fullmatch(line)
    option, value = match.groups() if match else (line, "")
    # pip lets a short option touch its value: -rother.txt
    if match and not option.startswith("--") and len(option) > 2:
        option, value = option[:2], option[2:] + value
    if option in _REFUSED:
        raise unusable(file, number, f"{option} cannot be used here: {_REFUSED[option]}.")
    if option in ("-i", "--index-url"):
        found.index_url = _index(value, option, file, number)
    elif option == "--extra-index-url":
        found.extra_index_urls.append(_index(value, option, file, number))
    elif option == "--pre":
        found.prerelease = True
    elif option in _WITHOUT_EFFECT:
        found.notes.append(f"{file} line {number}: {option} has no effect on a lock and is passed over.")
    else:
        raise unusable(file, number, f"{option[:40]!r} is no option that a requirements file can have here.")


def _index(url: str, option: str, file: str, number: int) -> str:
    try:
        parts = urlsplit(url.strip("\"'"))
        secret, usable = bool(parts.username or parts.password), parts.scheme in ("http", "https") and parts.hostname
    except ValueError:
        secret, usable = False, None
    if secret:
        raise unusable(
            file,
            number,
            f"{option} holds a user name or password, and this file is kept with the manifest. Write the URL without "
            "them and put them into the netrc file of the control plane's user, or use the index_url setting.",
        )
    if not usable or any(character.isspace() for character in url):
        raise unusable(file, number, f"{option} needs an http or https URL, not {_shown(url)!r}.")
    return url.strip("\"'")


def _shown(text: str) -> str:
    return re.sub(r"://[^/@\s]*@", "://***@", text)[:200]

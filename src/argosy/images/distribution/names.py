"""Names of images in registries: `host[:port]/path[:tag][@digest]`, read as Docker reads them."""

import re
from dataclasses import dataclass

from argosy.errors import InvalidOption

DOCKER_HUB = "docker.io"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?")
_LONGEST_PATH = 255


@dataclass(frozen=True)
class ImageName:
    """Where an image lies. Without tag and digest, `tag` is `latest`."""

    host: str
    path: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> "ImageName":
        """The first part is a host when it has a `.` or `:` or is `localhost`; else the image is Docker Hub's."""
        rest, at, digest = text.partition("@")
        if at and not _DIGEST.fullmatch(digest):
            raise _invalid(text, "the part after @ must be sha256: and 64 hexadecimal digits in lower case")
        head, slash, tail = rest.partition("/")
        if slash and (head == "localhost" or any(mark in head for mark in ".:[") or head != head.lower()):
            host, rest = check_host(head), tail
        else:
            host = DOCKER_HUB
        path, colon, tag = rest.partition(":")
        if colon and not _TAG.fullmatch(tag):
            raise _invalid(
                text, "a tag has 1 to 128 of letters, digits, '.', '_' and '-', and starts with neither . nor -"
            )
        if host == DOCKER_HUB and "/" not in path:
            path = f"library/{path}"
        if not _PATH.fullmatch(path) or len(path) > _LONGEST_PATH:
            raise _invalid(text, "the path has lower-case letters and digits, parted by '/', '.', '_', '__' or '-'")
        return cls(host, path, tag if colon else None if at else "latest", digest if at else None)

    @property
    def reference(self) -> str:
        """What a registry is asked for: the digest when there is one, else the tag."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.path}{tag}" + (f"@{self.digest}" if self.digest else "")


def check_host(text: str) -> str:
    """The host of a registry, `name[:port]`, without scheme and path."""
    found = _HOST.fullmatch(text)
    if not found or int(found["port"] or 1) not in range(1, 65536):
        raise InvalidOption("the registry", text, "write its host and port alone, such as registry.example.com:5000")
    return "docker.io" if text.lower() in ("index.docker.io", "registry-1.docker.io") else text.lower()


def check_digest(text: str) -> bool:
    return bool(_DIGEST.fullmatch(text))


def is_loopback(host: str) -> bool:
    """Whether `host[:port]` is this machine by its very name."""
    name = host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    return name in ("localhost", "[::1]") or bool(re.fullmatch(r"127(?:\.[0-9]{1,3}){3}", name))


def _invalid(text: str, wanted: str) -> InvalidOption:
    return InvalidOption("the image name", text, f"{wanted}. Write HOST[:PORT]/PATH[:TAG][@DIGEST]")

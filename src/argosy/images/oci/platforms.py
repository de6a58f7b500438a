"""The platforms that images can be built for, and how each tool calls them."""

import platform as machine
from collections.abc import Sequence
from dataclasses import dataclass

from argosy.errors import InvalidOption


@dataclass(frozen=True)
class Platform:
    """`wheels` is uv's name for it, `conda` conda's, `machine` the number in its ELF files, `uname` what Linux says."""

    name: str
    wheels: str
    machine: int
    uname: str
    conda: str

    @property
    def architecture(self) -> str:
        return self.name.partition("/")[2]


# glibc 2.28: Debian 10, Ubuntu 18.10, RHEL 8 and all that came after.
PLATFORMS = {
    "linux/amd64": Platform("linux/amd64", "x86_64-manylinux_2_28", 62, "x86_64", "linux-64"),
    "linux/arm64": Platform("linux/arm64", "aarch64-manylinux_2_28", 183, "aarch64", "linux-aarch64"),
}


def parse_platforms(names: Sequence[str]) -> list[Platform]:
    """Sorted, each once. Raises InvalidOption."""
    if not names:
        raise InvalidOption("--platform", "", f"name one or more of {', '.join(PLATFORMS)}")
    for name in names:
        if name not in PLATFORMS:
            raise InvalidOption("--platform", name, f"images can be built for {', '.join(PLATFORMS)}")
    return [PLATFORMS[name] for name in sorted(set(names))]


def own_platform() -> str:
    """This machine's, as a container has it."""
    return next((p.name for p in PLATFORMS.values() if p.uname == machine.machine()), "linux/amd64")


def platform_of_machine(number: int) -> str:
    """For messages: the platform of an ELF machine number."""
    return next((p.name for p in PLATFORMS.values() if p.machine == number), f"ELF machine {number}")

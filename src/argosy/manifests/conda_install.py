"""Installs locked conda packages into a folder, for whatever platform: files are unpacked and told their prefix."""

import re
from collections.abc import Sequence
from pathlib import Path

from argosy.errors import EnvironmentFailed, Error
from argosy.manifests.channels import Channels
from argosy.manifests.run_rattler import Refused, run_rattler
from argosy.records import CondaPackage, encode

_HASH_DIFFERS = re.compile(r"hash mismatch|sha256 mismatch|md5 mismatch|does not match the expected", re.IGNORECASE)
_DENIED = re.compile(r"\b(401|403)\b")
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|os error (28|122)\b")
_UNREACHABLE = re.compile(
    r"error sending request|dns error|Connection refused|timed out|HTTP status|status code|certificate", re.IGNORECASE
)
_LONGEST_CAUSE_CHARS = 600


def install_conda(
    packages: Sequence[CondaPackage],
    platform: str,
    target: Path,
    prefix: Path,
    channels: Channels,
    keep_open: Sequence[int] = (),
) -> None:
    """Write into `target` what is to lie at `prefix` when it is used. No code of a package is run.

    Raises EnvironmentFailed.
    """
    order = {
        "do": "install",
        "packages": encode(list(packages)),
        "platform": platform,
        "target": str(target),
        "prefix": str(prefix),
    }
    try:
        run_rattler(order, channels, keep_open=keep_open)
    except Refused as refused:
        raise _explained(refused, packages) from refused


def _explained(refused: Refused, packages: Sequence[CondaPackage]) -> Error:
    text = " ".join(refused.text.split())[:_LONGEST_CAUSE_CHARS]
    package = next((p for p in packages if p.url.rpartition("/")[2] in text or f"{p.name}-{p.version}" in text), None)
    details = {"log": refused.text.splitlines(), **({"package": package.name} if package else {})}
    subject = f"{package.name} {package.version} {package.build} ({package.url})" if package else "A package"
    what = "The conda packages could not be installed"
    if _NO_SPACE.search(text):
        return EnvironmentFailed(
            f"{what}: no space is left on the disk ({text}). Free some space there or in rattler's cache "
            "(RATTLER_CACHE_DIR), then try again.",
            details,
        )
    if _HASH_DIFFERS.search(text):
        return EnvironmentFailed(
            f"{what}: {subject} has other content than the channel's index, or the manifest's lock, says. Nothing was "
            "installed. If that change is intended, make the manifest again; if not, distrust the channel.",
            details,
        )
    if _DENIED.search(text):
        return EnvironmentFailed(
            f"{what}: {refused_access(package.channel if package else 'the channel', text)}", details
        )
    if _UNREACHABLE.search(text):
        return EnvironmentFailed(
            f"{what}: {subject} could not be fetched ({text}). Check the network and the proxy variables, then try "
            "again.",
            details,
        )
    return EnvironmentFailed(f"{what}: {text}", details)


def refused_access(channel: str, text: str) -> str:
    """For messages about credentials."""
    return (
        f"{channel} refused access ({text}). Put the credentials into the netrc file of the control plane's user, into "
        "the file that RATTLER_AUTH_FILE names, or into a URL of the conda_channels setting."
    )

"""The program that solves and installs conda packages: an order as JSON on its input, an answer as JSON on its output.

`run_rattler.py` starts it, in a process of its own: rattler is a large native library that no other part should load,
and it finds its credentials by environment variables. It imports nothing else of this project.
"""

import asyncio
import hashlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import rattler
from rattler import exceptions

_MOST_VERSIONS = 20


class _Refused(Exception):
    """`kind`: spec, channel, unsolvable or package. `more` goes into the answer."""

    def __init__(self, kind: str, text: str, **more: Any) -> None:
        super().__init__(text)
        self.answer = {"kind": kind, "text": text, **more}


async def _solve(order: dict[str, Any], client: rattler.Client) -> dict[str, Any]:
    specs = [_spec(text, number) for number, text in enumerate(order["specs"])]
    # A channel that a specification names need not be listed; it then comes last.
    every = [rattler.Channel(name) for name in order["channels"]] + [each.channel for each in specs if each.channel]
    channels = list({channel.base_url: channel for channel in every}.values())
    gateway = rattler.Gateway(client=client)
    platforms = [rattler.Subdir(order["platform"]), rattler.Subdir("noarch")]
    try:
        records = await rattler.solve(
            channels,
            specs,
            gateway=gateway,
            platforms=platforms,
            constraints=[rattler.MatchSpec(text) for text in order["constraints"]],
            virtual_packages=[_virtual(*each) for each in order["virtual"]],
            channel_priority=rattler.ChannelPriority.Strict,
        )
    except exceptions.SolverError as problem:
        offered = await _offered(gateway, channels, platforms, specs)
        raise _Refused("unsolvable", str(problem), offered=offered) from problem
    except exceptions.GatewayError as problem:
        raise _Refused("channel", str(problem)) from problem
    return {"channels": [channel.base_url for channel in channels], "packages": [_package(each) for each in records]}


async def _offered(
    gateway: rattler.Gateway, channels: Any, platforms: Any, specs: list[rattler.MatchSpec]
) -> list[list[str]]:
    """For each of `specs` the versions that the channels have, newest first, whatever it says of them."""
    found = []
    for spec in specs:
        asked = [spec.channel] if spec.channel is not None else channels
        name = rattler.MatchSpec(spec.name.normalized)
        answer = await gateway.query(asked, platforms, [name], recursive=False)
        versions = {record.version for records in answer for record in records}
        found.append([str(version) for version in sorted(versions, reverse=True)[:_MOST_VERSIONS]])
    return found


async def _install(order: dict[str, Any], client: rattler.Client) -> dict[str, Any]:
    for package in order["packages"]:
        _check_file(package)
    try:
        await rattler.install(
            [_repodata_record(each) for each in order["packages"]],
            target_prefix=order["target"],
            alternative_target_prefix=order["prefix"],
            platform=rattler.Subdir(order["platform"]),
            # They would run code of packages on this machine, for whatever platform.
            execute_link_scripts=False,
            show_progress=False,
            client=client,
        )
    except (
        exceptions.InstallerError,
        exceptions.LinkError,
        exceptions.TransactionError,
        exceptions.ExtractError,
        exceptions.CacheDirError,
        exceptions.IoError,
    ) as problem:
        raise _Refused("package", str(problem)) from problem
    return {}


def _check_file(package: dict[str, Any]) -> None:
    """rattler compares the hashes of what it downloads, and takes a file of this machine as it is."""
    if package["url"].startswith("file://"):
        path = Path(unquote(urlsplit(package["url"]).path))
        try:
            with path.open("rb") as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError as problem:
            raise _Refused("package", f"{path} cannot be read: {problem.strerror}") from problem
        if found != package["sha256"]:
            raise _Refused("package", f"hash mismatch of {path}: expected {package['sha256']}, got {found}")


def _spec(text: str, number: int) -> rattler.MatchSpec:
    try:
        return rattler.MatchSpec(text)
    except (exceptions.InvalidMatchSpecError, exceptions.InvalidChannelError, exceptions.InvalidVersionSpecError) as no:
        raise _Refused("spec", str(no), spec=number) from no


def _virtual(name: str, version: str, build: str) -> rattler.GenericVirtualPackage:
    return rattler.GenericVirtualPackage(
        rattler.PackageName(name), rattler.Version(version), rattler.BuildString(build)
    )


def _package(record: rattler.RepoDataRecord) -> dict[str, Any]:
    noarch = record.noarch
    return {
        "name": record.name.normalized,
        "version": str(record.version),
        "build": str(record.build),
        "build_number": record.build_number,
        "subdir": str(record.subdir),
        "channel": str(record.channel or ""),
        "url": record.url,
        "sha256": record.sha256.hex() if record.sha256 else "",
        "size_bytes": record.size or 0,
        "noarch": "python" if noarch.python else "generic" if noarch.generic else "",
        "depends": sorted(record.depends),
    }


def _repodata_record(package: dict[str, Any]) -> rattler.RepoDataRecord:
    record = rattler.PackageRecord(
        package["name"],
        package["version"],
        rattler.BuildString(package["build"]),
        package["build_number"],
        package["subdir"],
        noarch=package["noarch"] or None,
        depends=package["depends"],
        sha256=bytes.fromhex(package["sha256"]),
        size=package["size_bytes"],
    )
    return rattler.RepoDataRecord(record, package["url"].rpartition("/")[2], package["url"], package["channel"])


async def _answer(order: dict[str, Any]) -> dict[str, Any]:
    client = rattler.Client.default_client(max_retries=1)
    try:
        return await {"solve": _solve, "install": _install}[order["do"]](order, client)
    except _Refused as refused:
        return {"error": refused.answer}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    json.dump(asyncio.run(_answer(json.load(sys.stdin))), sys.stdout)
    sys.stdout.flush()
    # Requests that are still under way when another one has failed would crash an interpreter that takes itself apart.
    os._exit(0)

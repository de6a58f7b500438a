"""Conda files solved as conda would: what is locked, from where, and what is said when it cannot be."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from argosy.errors import EnvironmentFailed, InvalidDependencies, InvalidOption
from argosy.manifests.channels import Channels
from argosy.manifests.conda_file import read_conda_file
from argosy.manifests.conda_lock import CondaWish, lock_conda
from argosy.manifests.runtime import Runtime, parse_runtime
from argosy.records import Lock, decode, encode
from conftest import Require
from manifests.conda_channel import ELSEWHERE, HERE, CondaChannel, serve_channel
from manifests.package_index import PackageIndex


def conda_file(channels: Sequence[str], *dependencies: str) -> str:
    lines = ["channels:", *(f"  - {each}" for each in channels), "dependencies:", *(f"  - {d}" for d in dependencies)]
    return "\n".join(lines) + "\n"


def locked(
    index: PackageIndex,
    channels: Sequence[str],
    *dependencies: str,
    setting: str = "",
    runtime: str | None = None,
    serving: Sequence[str] = (),
) -> tuple[Lock, list[str]]:
    file = read_conda_file(conda_file(channels, *dependencies))
    runtime_ = parse_runtime(runtime) if runtime else Runtime()
    return lock_conda(CondaWish(file, runtime_, file.pip, serving, Channels.of(setting), index.url))


def test_a_lock_has_builds_urls_and_hashes_for_both_platforms(index: PackageIndex, channel: CondaChannel) -> None:
    lock, notes = locked(index, [channel.url], "greet", "tool>=1", "pip: [alpha]", serving=["beta"])
    assert notes == [] and lock.python == "3.12"
    assert lock.channels == [f"{channel.url}/"]
    assert [each.platform for each in lock.conda] == sorted([HERE, ELSEWHERE])
    for environment in lock.conda:
        assert [package.name for package in environment.packages] == ["greet", "python", "tool"]
        greet, _, tool = environment.packages
        assert (greet.build, greet.noarch, greet.depends) == ("py_0", "python", ["python >=3.10"])
        assert tool.url == f"{channel.url}/{environment.platform}/tool-2.0-h0_0.conda"
        assert len(tool.sha256) == 64 and tool.size_bytes > 0
    assert "alpha==1.0" in lock.text and "beta==1.1" in lock.text and "greet" not in lock.text
    assert lock.packages["tool"] == "2.0" and lock.packages["alpha"] == "1.0"
    assert decode(Lock, encode(lock)) == lock
    assert locked(index, [channel.url], "greet", "tool>=1", "pip: [alpha]", serving=["beta"])[0] == lock


def test_what_conda_has_installed_is_not_taken_from_the_index(index: PackageIndex, channel: CondaChannel) -> None:
    channel.add_library("beta", "1.0", "VERSION = 'of conda'\n")
    lock, _ = locked(index, [channel.url], "beta", "pip: [alpha]")
    assert "alpha==1.0" in lock.text and "beta" not in lock.text
    with pytest.raises(InvalidDependencies) as refused:
        locked(index, [channel.url], "beta", "pip: [gamma]")
    assert "beta" in refused.value.message and "gamma" in refused.value.message


def test_the_first_channel_that_has_a_package_is_the_only_one_for_it(
    index: PackageIndex, channel: CondaChannel, tmp_path: Path
) -> None:
    mine = CondaChannel(tmp_path / "mine")
    mine.add("tool", "1.0", {"bin/tool": b"mine"})
    lock, _ = locked(index, [mine.url, channel.url], "tool", "python")
    assert lock.packages["tool"] == "1.0"
    lock, _ = locked(index, [mine.url, channel.url], f"{channel.url}::tool", "python")
    assert lock.packages["tool"] == "2.0"


def test_a_platform_without_the_packages_is_left_out_with_its_reason(
    index: PackageIndex, channel: CondaChannel
) -> None:
    channel.add("driver", "1.0", {"lib/driver.so": b"x"})
    lock, notes = locked(index, [channel.url], "driver")
    assert [each.platform for each in lock.conda] == [HERE]
    assert len(notes) == 1 and ELSEWHERE in notes[0] and "driver" in notes[0]


def test_python_is_the_files_or_that_of_the_runtime_option(index: PackageIndex, channel: CondaChannel) -> None:
    assert locked(index, [channel.url], "python=3.10", "tool", runtime="python:3.12")[0].python == "3.12"
    with pytest.raises(InvalidDependencies, match=r"-r: python 3\.11\.\* \(there is 3\.12"):
        locked(index, [channel.url], "tool", runtime="python:3.11")
    with pytest.raises(InvalidDependencies, match=r"line 5: python=3\.11 \(there is 3\.12"):
        locked(index, [channel.url], "tool", "python=3.11")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nowhere", "conda.yml line 4: nowhere: none of the channels"),
        ("tool=9", "conda.yml line 4: tool=9 (there is 2.0)"),
        ("tool!!", "conda.yml line 4: 'tool!!' is no conda package"),
        ("needy", "newer-system"),
    ],
)
def test_what_cannot_be_solved_names_the_line(index: PackageIndex, channel: CondaChannel, spec: str, said: str) -> None:
    channel.add("needy", "1.0", {"x": b"x"}, ["newer-system >=1", "__glibc >=2.17"])
    with pytest.raises(InvalidDependencies) as refused:
        locked(index, [channel.url], spec)
    assert said in refused.value.message


def test_packages_that_need_a_newer_c_library_are_refused(index: PackageIndex, channel: CondaChannel) -> None:
    channel.add("modern", "1.0", {"x": b"x"}, ["__glibc >=2.35"])
    with pytest.raises(InvalidDependencies, match="__glibc"):
        locked(index, [channel.url], "modern")


def test_a_channel_without_python_is_told(index: PackageIndex, channel: CondaChannel, tmp_path: Path) -> None:
    mine = CondaChannel(tmp_path / "mine")
    mine.add("tool", "1.0", {"bin/tool": b"mine"})
    with pytest.raises(InvalidDependencies, match=r"None of the channels .* has a Python"):
        locked(index, [mine.url], "tool")


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("file:///nowhere/channel", InvalidDependencies, "line 2: file:///nowhere/channel is no conda channel"),
        ("/nowhere/channel", InvalidDependencies, "line 2: file:///nowhere/channel is no conda channel"),
        ("http://127.0.0.1:1/x", EnvironmentFailed, "line 2: http://127.0.0.1:1/x did not answer"),
        ("https://joe:s3cret@channels.example/x", InvalidDependencies, "line 2: the channel holds a user name"),
        ("https://channels.example/t/tok3n/x", InvalidDependencies, "line 2: the channel holds a user name"),
        ("ftp://channels.example/x", InvalidDependencies, "begins with https://"),
        ("../mine", InvalidDependencies, "is no channel"),
    ],
)
def test_a_channel_that_cannot_be_used(
    index: PackageIndex, channel: CondaChannel, url: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as refused:
        locked(index, [url], "tool")
    assert said in str(refused.value) and "s3cret" not in str(refused.value) and "tok3n" not in str(refused.value)


@pytest.mark.parametrize("how", ["login", "token", "netrc", "rattler's file"])
def test_private_channels_open_to_credentials_that_are_never_locked(
    index: PackageIndex, channel: CondaChannel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    setting = ""
    with serve_channel(channel.folder) as served:
        if how == "netrc":
            (tmp_path / "netrc").write_text("machine 127.0.0.1 login joe password s3cret\n")
            monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        elif how == "rattler's file":
            login = {"BasicHTTP": {"username": "joe", "password": "s3cret"}}
            (tmp_path / "logins.json").write_text(json.dumps({"127.0.0.1": login}))
            monkeypatch.setenv("RATTLER_AUTH_FILE", str(tmp_path / "logins.json"))
        else:
            setting = served.url(login="joe:s3cret@") if how == "login" else served.url(token="tok3n")
        lock, _ = locked(index, [served.url()], "greet", setting=setting)
        assert lock.packages["greet"] == "1.0"
        assert lock.channels == [f"{served.url()}/"]
        kept = json.dumps(encode(lock))
        assert "s3cret" not in kept and "tok3n" not in kept and "joe" not in kept


@pytest.mark.parametrize("login", ["", "joe:wr0ng@"])
def test_refused_credentials_are_told_and_not_shown(index: PackageIndex, channel: CondaChannel, login: str) -> None:
    with serve_channel(channel.folder) as served, pytest.raises(EnvironmentFailed) as refused:
        locked(index, [served.url()], "greet", setting=served.url(login) if login else "")
    assert "refused access (401" in refused.value.message and "netrc" in refused.value.message
    assert "wr0ng" not in refused.value.message + json.dumps(refused.value.details)


def test_a_temporary_folder_that_cannot_be_used_is_told(
    index: PackageIndex, channel: CondaChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/no-such-folder")
    with pytest.raises(EnvironmentFailed, match="temporary folder /proc/no-such-folder cannot be used"):
        locked(index, [channel.url], "greet")


def test_the_setting_is_for_files_that_name_no_channel(index: PackageIndex, channel: CondaChannel) -> None:
    with serve_channel(channel.folder) as served:
        lock, _ = locked(index, [], "greet", setting=served.url(login="joe:s3cret@"))
    assert lock.channels == [f"{served.url()}/"]


def test_the_authority_of_ssl_cert_file_is_trusted(
    index: PackageIndex, channel: CondaChannel, require: Require, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tests"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
    place = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([require("openssl"), *make, *names, *place], check=True, capture_output=True)
    with serve_channel(channel.folder, (certificate, key)) as served:
        setting = served.url(login="joe:s3cret@")
        with pytest.raises(EnvironmentFailed, match=r"did not answer \(.*certificate.*SSL_CERT_FILE"):
            locked(index, [served.url()], "greet", setting=setting)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert locked(index, [served.url()], "greet", setting=setting)[0].packages["greet"] == "1.0"


@pytest.mark.parametrize("remote", [True, False])
def test_other_content_than_the_index_says_is_refused(index: PackageIndex, channel: CondaChannel, remote: bool) -> None:
    listed = channel.folder / "noarch" / "repodata.json"
    known = json.loads(listed.read_text())
    known["packages"]["greet-1.0-py_0.tar.bz2"]["sha256"] = "0" * 64
    listed.write_text(json.dumps(known))
    with serve_channel(channel.folder) as served:
        url, setting = (served.url() if remote else channel.url), served.url(login="joe:s3cret@")
        with pytest.raises(EnvironmentFailed, match=r"greet 1\.0 .*other content"):
            locked(index, [url], "greet", setting=setting)


def test_credentials_are_parted_from_the_settings_urls() -> None:
    found = Channels.of("conda-forge https://a%40b:p%2Fw@one.example/x https://two.example/t/tok3n/y/ file:///z")
    assert found.urls == ("conda-forge", "https://one.example/x", "https://two.example/y", "file:///z")
    assert found.logins == {
        "one.example": {"BasicHTTP": {"username": "a@b", "password": "p/w"}},
        "two.example": {"CondaToken": "tok3n"},
    }
    assert "p/w" not in repr(found) and "tok3n" not in repr(found)
    assert found.redact("GET https://joe:pw@h.example/t/tok/x") == "GET https://***@h.example/t/***/x"
    assert Channels.of("conda-forge").authentication() == ""


@pytest.mark.parametrize("second", ["https://jim:0ther@one.example/y", "https://one.example:8443/t/t0ken/y"])
def test_two_logins_at_one_host_are_refused(second: str) -> None:
    """rattler knows one a host: which of the two channels works would be chance."""
    with pytest.raises(InvalidOption, match=r"two logins for one\.example") as problem:
        Channels.of(f"https://joe:s3cret@one.example/x {second}")
    assert not any(secret in problem.value.message for secret in ("s3cret", "0ther", "t0ken"))
    both = Channels.of("https://joe:s3cret@one.example/x https://joe:s3cret@one.example/y https://one.example/z")
    assert len(both.urls) == 3 and len(both.logins) == 1

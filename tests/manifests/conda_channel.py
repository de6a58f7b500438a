"""Conda channels for tests: packages made by hand in a folder, with a real Python, and served with credentials."""

import base64
import bz2
import hashlib
import io
import json
import os
import shutil
import ssl
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import zstandard

from argosy.images.pythons import Python, find_python
from argosy.manifests.conda_lock import IMAGE_PLATFORMS, own_platform

GREET = "VERSION = '1.0'\n\n\ndef main():\n    print('hello')\n"
PLACEHOLDER = b"/opt/" + b"placeholder_" * 12
HERE = own_platform()
ELSEWHERE = next(platform for platform in IMAGE_PLATFORMS.values() if platform != HERE)
_USELESS = (
    "__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "site-packages",
    "pydoc_data",
)  # fmt: skip
# Extension modules that need more than libc, and that a replica gets along without.
_FOREIGN = ("_tkinter", "_curses", "readline", "nis", "_dbm", "_gdbm", "_test", "_xxtest", "_sqlite3", "_ctypes_test")


@dataclass
class CondaChannel:
    """A channel in `folder`. Files are told their prefix where they hold the placeholder."""

    folder: Path

    @property
    def url(self) -> str:
        return self.folder.as_uri()

    def add(
        self,
        name: str,
        version: str,
        files: Mapping[str, bytes],
        depends: Sequence[str] = (),
        subdir: str = HERE,
        noarch: str = "",
        links: Mapping[str, str] | None = None,
        entry_points: Sequence[str] = (),
        packed: str = "conda",
    ) -> Path:
        """Add a package to `subdir` (a noarch one to noarch). `links` are symbolic links; `packed` conda or tar.bz2."""
        subdir, build = ("noarch", "py_0") if noarch else (subdir, "h0_0")
        index: dict[str, Any] = {
            "name": name, "version": version, "build": build, "build_number": 0, "depends": list(depends),
            "subdir": subdir, **({"noarch": noarch} if noarch else {}),
        }  # fmt: skip
        paths = [_path(path, content) for path, content in files.items()]
        paths += [{"_path": path, "path_type": "softlink"} for path in links or {}]
        info = {
            "info/index.json": json.dumps(index).encode(),
            "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}).encode(),
        }
        if noarch == "python":
            link = {"noarch": {"type": "python", "entry_points": list(entry_points)}, "package_metadata_version": 1}
            info["info/link.json"] = json.dumps(link).encode()
        stem = f"{name}-{version}-{build}"
        content = _conda(stem, info, files, links or {}) if packed == "conda" else _bz2(info, files, links or {})
        place = self.folder / subdir / f"{stem}.{packed}"
        place.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / "noarch").mkdir(exist_ok=True)
        place.write_bytes(content)
        self._list(place, {**index, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)})
        return place

    def add_library(self, name: str, version: str, module: str, depends: Sequence[str] = (), **more: Any) -> Path:
        """A `noarch: python` package with one module and what pip would know of it."""
        files = {
            f"site-packages/{name}/__init__.py": module.encode(),
            f"site-packages/{name}-{version}.dist-info/METADATA": f"Name: {name}\nVersion: {version}\n".encode(),
        }
        return self.add(name, version, files, ["python >=3.10", *depends], noarch="python", **more)

    def add_python(self, python: Python) -> Path:
        """This machine's, with what a replica needs of it; for the other platform of images in name alone."""
        root, minor = python.path.resolve().parent.parent, python.minor
        files = {f"bin/python{minor}": _relocatable((root / "bin" / f"python{minor}").read_bytes(), root / "lib")}
        for path in sorted((root / "lib" / f"python{minor}").rglob("*")):
            inside = path.relative_to(root)
            if path.is_file() and not set(inside.parts) & set(_USELESS) and not path.name.startswith(_FOREIGN):
                files[inside.as_posix()] = path.read_bytes()
        files |= {f"lib/{p.name}": p.read_bytes() for p in (root / "lib").glob(f"libpython{minor}.so.*")}
        links = {"bin/python": f"python{minor}", "bin/python3": f"python{minor}"}
        depends = ["__glibc >=2.17"]
        self.add("python", python.version, {f"bin/python{minor}": b"\x7fELF"}, depends, ELSEWHERE, links=links)
        return self.add("python", python.version, files, depends, links=links)

    def _list(self, place: Path, record: dict[str, Any]) -> None:
        for folder in {place.parent, self.folder / "noarch"}:
            file = folder / "repodata.json"
            known = json.loads(file.read_text()) if file.exists() else {"packages": {}, "packages.conda": {}}
            if folder == place.parent:
                known["packages" if place.suffix == ".bz2" else "packages.conda"][place.name] = record
            file.write_text(json.dumps({**known, "info": {"subdir": folder.name}, "repodata_version": 1}))


def _relocatable(program: bytes, libraries: Path) -> bytes:
    """The program, looking for libraries beside it, as conda's do, where it was told to look in `libraries`."""
    told, beside = os.fsencode(libraries) + b"\0", b"$ORIGIN/../lib\0"
    return program.replace(told, beside.ljust(len(told), b"\0")) if len(told) >= len(beside) else program


def _path(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(content).hexdigest(),
        "size_in_bytes": len(content),
    }  # fmt: skip
    if PLACEHOLDER in content:
        entry |= {"prefix_placeholder": PLACEHOLDER.decode(), "file_mode": "binary" if b"\0" in content else "text"}
    return entry


def _tar(files: Mapping[str, bytes], links: Mapping[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755 if path.startswith("bin/") else 0o644
            tar.addfile(entry, io.BytesIO(content))
        for path, target in links.items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return out.getvalue()


def _bz2(info: Mapping[str, bytes], files: Mapping[str, bytes], links: Mapping[str, str]) -> bytes:
    return bz2.compress(_tar({**info, **files}, links), 1)


def _conda(stem: str, info: Mapping[str, bytes], files: Mapping[str, bytes], links: Mapping[str, str]) -> bytes:
    out, packer = io.BytesIO(), zstandard.ZstdCompressor(1)
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in (
            ("metadata.json", b'{"conda_pkg_format_version": 2}'),
            (f"pkg-{stem}.tar.zst", packer.compress(_tar(files, links))),
            (f"info-{stem}.tar.zst", packer.compress(_tar(info, {}))),
        ):
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client hangs up on what it does not want."""


@dataclass
class Served:
    """A channel on loopback that wants `joe:s3cret` or the token `tok3n`."""

    host: str
    scheme: str = "http"
    asked: list[str] = field(default_factory=list)

    def url(self, login: str = "", token: str = "") -> str:
        return f"{self.scheme}://{login}{self.host}{f'/t/{token}' if token else ''}/private"


@contextmanager
def serve_channel(folder: Path, certificate: tuple[Path, Path] | None = None) -> Iterator[Served]:
    """Under the path /private of a host of its own; with TLS when there is a certificate and its key."""
    wanted = "Basic " + base64.b64encode(b"joe:s3cret").decode()
    served = Served("", "https" if certificate else "http")

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(super().do_GET)

        def do_HEAD(self) -> None:
            self._answer(super().do_HEAD)

        def _answer(self, answer: Callable[[], None]) -> None:
            served.asked.append(self.path)
            by_token = self.path.startswith("/t/tok3n/")
            self.path = self.path.removeprefix("/t/tok3n")
            if not by_token and self.headers.get("Authorization") != wanted:
                self.send_error(401)
            elif not self.path.startswith("/private/"):
                self.send_error(404)
            else:
                self.path = self.path.removeprefix("/private")
                answer()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = _Server(("127.0.0.1", 0), lambda *words: Handler(*words, directory=str(folder)))
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    served.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="session")
def conda_python(tmp_path_factory: pytest.TempPathFactory) -> CondaChannel:
    """A channel with a real Python 3.12 and nothing else; see `channel`."""
    channel = CondaChannel(tmp_path_factory.mktemp("conda-python"))
    channel.add_python(find_python("3.12"))
    return channel


@pytest.fixture
def channel(conda_python: CondaChannel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CondaChannel:
    """Python 3.12, `greet` (a Python library), and `tool` (prefixes in text and bytes)."""
    # Unpacking a Python takes seconds: once is enough.
    monkeypatch.setenv("RATTLER_CACHE_DIR", str(conda_python.folder.parent / "rattler"))
    monkeypatch.delenv("RATTLER_AUTH_FILE", raising=False)
    return fill_channel(conda_python, tmp_path / "channel")


def fill_channel(conda_python: CondaChannel, folder: Path) -> CondaChannel:
    shutil.copytree(conda_python.folder, folder)
    made = CondaChannel(folder)
    made.add_library("greet", "1.0", GREET, packed="tar.bz2", entry_points=["greet = greet:main"])
    for platform in (HERE, ELSEWHERE):
        text = {"bin/tool": b"#!" + PLACEHOLDER + b"/bin/python\nimport sys\nprint('tool in', sys.prefix)\n"}
        native = {"lib/libtool.so.1": b"\x7fELF\0" + platform.encode() + b"\0" + PLACEHOLDER + b"/share\0end"}
        made.add("tool", "2.0", text | native, subdir=platform, links={"lib/libtool.so": "libtool.so.1"})
    return made

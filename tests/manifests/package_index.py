"""Package indexes for tests: one of hand-made wheels on loopback, and the real one of this machine where it answers."""

import base64
import hashlib
import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from argosy.manifests.uv import run_uv


def wheel_bytes(
    name: str,
    version: str,
    requires: Sequence[str] = (),
    requires_python: str = "",
    tag: str = "py3-none-any",
    files: Mapping[str, bytes] | None = None,
) -> tuple[str, bytes]:
    """(file name, content) of a wheel with one module, and a script if there is a `main` in it."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *([f"Requires-Python: {requires_python}"] if requires_python else []),
        *(f"Requires-Dist: {each}" for each in requires),
    ]
    members = {
        f"{module}/__init__.py": f"VERSION = {version!r}\n\n\ndef main():\n    print(VERSION)\n".encode(),
        **(files or {}),
        f"{info}/METADATA": ("\n".join(metadata) + "\n").encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {module}:main\n".encode(),
    }
    record = "".join(f"{path},sha256={_digest(content)},{len(content)}\n" for path, content in members.items())
    members[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, content in members.items():
            archive.writestr(zipfile.ZipInfo(path), content)
    return f"{module}-{version}-{tag}.whl", out.getvalue()


def source_bytes(name: str, version: str) -> tuple[str, bytes]:
    """(file name, content) of a source distribution whose build would leave a trace."""
    out = io.BytesIO()
    setup = b"raise SystemExit('the code of a source distribution was run')\n"
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, content in {"PKG-INFO": f"Name: {name}\nVersion: {version}\n".encode(), "setup.py": setup}.items():
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return f"{name}-{version}.tar.gz", out.getvalue()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


@dataclass
class PackageIndex:
    """Serves `files` of each project. `status` other than 200 is answered to everything; wheels wait for `gate`."""

    projects: dict[str, dict[str, bytes]] = field(default_factory=dict)
    requires_python: dict[str, str] = field(default_factory=dict)
    status: int = 200
    gate: threading.Event = field(default_factory=threading.Event)
    asked_for_wheel: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def add(self, name: str, version: str, **more: object) -> None:
        """A wheel; `more` as wheel_bytes has it."""
        file, content = wheel_bytes(name, version, **more)  # type: ignore[arg-type]
        self.projects.setdefault(name, {})[file] = content
        if wanted := more.get("requires_python"):
            self.requires_python[file] = str(wanted)

    def add_source(self, name: str, version: str) -> None:
        file, content = source_bytes(name, version)
        self.projects.setdefault(name, {})[file] = content

    def page(self, project: str) -> bytes:
        links = []
        for file, content in self.projects[project].items():
            wanted = self.requires_python.get(file, "").replace(">", "&gt;").replace("<", "&lt;")
            mark = f' data-requires-python="{wanted}"' if wanted else ""
            links.append(f'<a href="/files/{file}#sha256={hashlib.sha256(content).hexdigest()}"{mark}>{file}</a>')
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        self.asked.append(path)
        kind, _, name = path.strip("/").partition("/")
        if self.status != 200:
            return self.status, "text/plain", b"no"
        if kind == "simple" and name in self.projects:
            return 200, "text/html", self.page(name)
        for files in self.projects.values():
            if kind == "files" and name in files:
                self.asked_for_wheel.set()
                self.gate.wait(30)
                return 200, "application/octet-stream", files[name]
        return 404, "text/plain", b"there is no such thing"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    index: PackageIndex


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        status, kind, content = self.server.index.answer(self.path)
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            pass  # the client was killed, as some tests want it

    def do_HEAD(self) -> None:
        self.send_error(405)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def serve(index: PackageIndex) -> _Server:
    """Starts to serve; the caller calls shutdown and server_close."""
    index.gate.set()
    server = _Server(("127.0.0.1", 0), _Handler)
    server.index = index
    index.url = f"http://127.0.0.1:{server.server_address[1]}/simple"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


def fill(index: PackageIndex) -> PackageIndex:
    """alpha needs beta 1, gamma beta 2; delta is for other Pythons, omega for Windows; sigma has no wheel."""
    for version in ("1.0", "1.1", "2.0"):
        index.add("beta", version)
    index.add("alpha", "1.0", requires=["beta<2"])
    index.add("gamma", "3.0", requires=["beta>=2"])
    index.add("delta", "1.0", requires_python="<3.12")
    index.add("delta", "2.0", requires_python=">=3.13")
    index.add_source("sigma", "1.0")
    index.add("omega", "1.0", tag="cp312-cp312-win_amd64")
    index.add("epsilon", "1.0", requires=["sigma"])
    index.add("serving", "1.0", requires=["beta==2.0"])
    return index


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PackageIndex]:
    """An index on loopback, and a uv with an empty cache and no configuration of this machine."""
    for name in [name for name in os.environ if name.startswith("UV_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    made = fill(PackageIndex())
    server = serve(made)
    yield made
    made.gate.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def real_index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The index that uv is configured for; what needs it is left out where it does not answer."""
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.in").write_text("six\n")
    if run_uv(["pip", "compile", "probe.in", "--quiet"], folder).code:
        pytest.skip("needs a package index: connect to the network or set UV_DEFAULT_INDEX")

"""What goes wrong at the keyboard and on the wire: a precise error, nothing half-registered, nothing else harmed."""

import errno
import io
import os
import socket
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from argosy import Client, connect
from e2e.calls import call
from e2e.running import Argosy, RecipeFolder


@pytest.fixture(scope="module")
def steady(argosy: Argosy, recipe: RecipeFolder) -> str:
    """A service that must not notice any of this."""
    argosy.ok("service", "create", "steady", "-m", recipe.model(2), *recipe.options())
    return "steady"


@pytest.fixture(scope="module")
def client(argosy: Argosy) -> Iterator[Client]:
    with connect(home=argosy.home) as client:
        yield client


@pytest.fixture(autouse=True)
def unharmed(argosy: Argosy, client: Client, steady: str) -> Iterator[None]:
    """Whatever a test does: nothing is registered, no process started or ended, no traceback anywhere."""
    before = what_there_is(argosy, client)
    yield
    assert what_there_is(argosy, client) == before
    assert client.services.run(steady) == [2.0, 4.0]
    assert "Traceback" not in (argosy.home / "logs" / "control-plane.log").read_text()
    assert not (argosy.home / "logs" / "cli-crash.log").exists()


def what_there_is(argosy: Argosy, client: Client) -> Any:
    services = client.services.list()
    return (
        [m.reference for m in client.models.list()],
        [m.reference for m in client.manifests.list()],
        [i.reference for i in client.images.list()],
        [e.name for e in client.environments.list()],
        [(s.name, s.etag, [r.pid for r in s.replicas]) for s in services],
        sorted((argosy.home / "run" / "r").iterdir()),
    )


def archive_of(members: dict[str, str], kind: str) -> bytes:
    """A zip or tar archive with these member names, however hostile. A tar member `-> x` is a link to x."""
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as made:
            for name, content in members.items():
                made.writestr(name, content)
        return out.getvalue()
    with tarfile.open(fileobj=out, mode="w:gz") as packed:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            if content.startswith("-> "):
                entry.type, entry.linkname = tarfile.SYMTYPE, content.removeprefix("-> ")
                packed.addfile(entry)
            else:
                entry.size = len(content)
                packed.addfile(entry, io.BytesIO(content.encode()))
    return out.getvalue()


def make_file(folder: Path) -> Path:
    return folder / "there-is-none.pkl"


def make_empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def make_link_out(folder: Path) -> Path:
    (folder / "tree").mkdir()
    (folder / "tree" / "weights").symlink_to("/etc/passwd")
    return folder / "tree"


def make_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


UNREGISTRABLE = [
    (make_file, "there is no such file"),
    (make_empty, "holds no files"),
    (make_link_out, "symbolic link out of"),
    (make_pipe, "pipe"),
]


@pytest.mark.parametrize(("make", "message"), UNREGISTRABLE)
def test_paths_that_are_no_model(argosy: Argosy, tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    path = make(tmp_path)
    said = argosy.fails("model", "register", path, "-n", "bad")
    assert message in said
    assert path.name in said


@pytest.mark.parametrize(
    ("kind", "members", "named"),
    [
        ("zip", {"ok.txt": "a", "../evil.txt": "b"}, "../evil.txt"),
        ("zip", {"/etc/evil": "b"}, "/etc/evil"),
        ("tar.gz", {"a/../../evil": "b"}, "a/../../evil"),
        ("tar.gz", {"/abs": "b"}, "/abs"),
        ("tar.gz", {"link": "-> /etc/passwd"}, "link"),
    ],
)
def test_archives_that_would_escape(
    argosy: Argosy, tmp_path: Path, kind: str, members: dict[str, str], named: str
) -> None:
    path = tmp_path / f"model.{kind}"
    path.write_bytes(archive_of(members, kind))
    assert named in argosy.fails("model", "register", path, "-n", "bad", "--unpack")


def test_an_archive_that_is_none(argosy: Argosy, tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_bytes(b"not a zip")
    assert "model.zip" in argosy.fails("model", "register", tmp_path / "model.zip", "-n", "bad", "--unpack")


@pytest.mark.parametrize("name", ["Iris", "a b", "", "-a", "a_b", "é", "a" * 64, "../x", "a/b"])
def test_names(argosy: Argosy, recipe: RecipeFolder, name: str) -> None:
    model = recipe.model(2)
    assert "name" in argosy.fails("model", "register", model, f"--name={name}")
    url, token = argosy.address["url"], (argosy.home / "token").read_text().strip()
    reply = call(f"{url}/v1/environments", {"name": name, "kind": "process"}, token=token)
    assert reply.status in (400, 422), "the server checks for itself"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/model.pkl", "http://localhost:9/m", "http://[::1]:9/m"])
def test_private_addresses_are_not_fetched(argosy: Argosy, url: str) -> None:
    assert "private" in argosy.fails("model", "register", url, "-n", "bad")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("def init(:\n", "line 1"),
        ("def init(): pass\n", "`run`"),
        ("def run(other): pass\n", "numbers"),
        ("", "`run`"),
    ],
)
def test_scripts_that_cannot_work(argosy: Argosy, recipe: RecipeFolder, script: str, message: str) -> None:
    said = argosy.fails("manifest", "create", "-n", "bad", "-i", "steady", *recipe.options(script=script))
    assert message in said
    assert "score.py" in said


def test_a_script_that_cannot_work_in_a_service(argosy: Argosy, recipe: RecipeFolder) -> None:
    said = argosy.fails("service", "create", "bad", "-i", "steady", *recipe.options(script="def init(:\n"))
    assert "line 1" in said


def test_a_broken_script_in_one_go_registers_no_model(argosy: Argosy, recipe: RecipeFolder) -> None:
    argosy.fails("service", "create", "bad", "-m", recipe.model(2), *recipe.options(script="def init(:\n"))


RECIPES = [
    (("-i", "steady:77"), "steady:77"),
    (("-i", "nobody"), "nobody"),
    (("-i", "Steady"), "'Steady'"),
    (("-i", "steady", "-r", "python:3.5"), "3.10 to 3.14"),
    (("-i", "steady", "-r", "ruby"), "ruby"),
    (("-i", "steady", "-c", "{tmp}/conda.yml"), "conda.yml"),
    (("-i", "steady", "-p", "{tmp}/nowhere.txt"), "nowhere.txt"),
    (("-i", "steady", "-p", "{tmp}/unknown.txt"), "no-such-package-of-anybody"),
    (("-i", "steady", "-s", "{tmp}/broken.json"), "broken.json"),
    (("-i", "steady", "-s", "{tmp}/schema.json"), "no-such-type"),
    (("-i", "steady", "--sample", "{tmp}/sample.json"), "lacks numbers and has number"),
    (("-i", "steady", "-D", "{tmp}/missing"), "missing"),
    (("-i", "steady", "-e", "NOVALUE"), "KEY=VALUE"),
]


@pytest.mark.parametrize(("options", "message"), RECIPES, ids=lambda value: str(value)[:40])
def test_recipes(argosy: Argosy, recipe: RecipeFolder, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    (tmp_path / "conda.yml").write_text("dependencies: [unclosed\n")
    (tmp_path / "unknown.txt").write_text("no-such-package-of-anybody==1.0\n")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "schema.json").write_text('{"input": {"numbers": {"type": "no-such-type", "swagger": {}}}}')
    (tmp_path / "sample.json").write_text('{"number": [1]}')
    given = [option.format(tmp=tmp_path) for option in options]
    defaults = list(recipe.options())
    for flag in ("-p", "-s"):
        # Later ones win, and the dependencies of a conda file would be added.
        if flag in given or (flag == "-p" and "-c" in given):
            at = defaults.index(flag)
            del defaults[at : at + 2]
    assert message in argosy.fails("manifest", "create", "-n", "bad", *defaults, *given)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("modle", "list"), "Did you mean model"),
        (("service", "creat", "x"), "Did you mean create"),
        (("service", "create", "x", "--scrip", "a"), "Did you mean --script"),
        (("service", "scale", "steady"), "-z"),
        (("service", "scale", "steady", "-z", "many"), "whole number"),
        (("service", "scale", "steady", "-z", "-1"), "-1"),
        (("service", "scale", "steady", "-z", "100000"), "100000"),
        (("service", "keys", "steady", "--show", "third"), "third"),
        (("service", "run", "steady", "extra"), "extra"),
        (
            (
                "service",
                "show",
            ),
            "NAME",
        ),
        (("model", "list", "-o", "xml"), "xml"),
        (("model", "delete", "steady"), "steady:1"),
        (("model", "delete", "steady:1"), "--yes"),
        (("service", "delete", "steady"), "--yes"),
        (("env", "create", "x", "--kind", "cloud"), "cloud"),
        (("env", "create", "local"), "local"),
        (("service", "rollback", "steady"), "nothing to go back to"),
        (("service", "rollback", "steady", "--to", "9"), "9"),
        (("service", "update", "steady"), "Nothing to change"),
        (("service", "update", "steady", "--image", "steady:9"), "steady:9"),
        (("service", "create", "steady", "--image", "steady:1"), "exists already"),
        (("service", "create", "new", "--image", "steady:1", "--env", "mars"), "mars"),
        (("service", "create", "new"), "--image"),
        (("image", "create", "-n", "new"), "--manifest"),
        (("image", "create", "-n", "new", "--manifest", "nothing:1"), "nothing:1"),
        (("manifest", "create"), "NAME"),
        (("up", "--port", "70000"), "70000"),
        (("completion", "powershell"), "powershell"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_commands(argosy: Argosy, words: tuple[str, ...], message: str) -> None:
    assert message in argosy.fails(*words)


@pytest.mark.parametrize(
    "command", ["show", "run", "usage", "keys", "logs", "history", "rollback", "wait", "delete --yes", "scale -z 1"]
)
def test_an_unknown_service(argosy: Argosy, command: str) -> None:
    name, *options = command.split()
    assert "There is no service 'nobody'" in argosy.fails("service", name, "nobody", *options)


@pytest.fixture
def url(argosy: Argosy, steady: str) -> str:
    return str(argosy.json("service", "show", steady)["scoring_url"])


@pytest.fixture
def key(argosy: Argosy, steady: str) -> str:
    return argosy.key(steady)


BODIES = [
    (b"nonsense", 400, None),
    (b"", 400, None),
    (b'{"numbers": [1,', 400, None),
    (b'{"numbers": [NaN]}', 400, None),
    (b"\xff\xfe", 400, None),
    (b"[1, 2]", 400, ""),
    (b"{}", 400, "/numbers"),
    (b'{"numbers": "a"}', 400, "/numbers"),
    (b'{"numbers": [1, "b"]}', 400, "/numbers/1"),
    (b'{"numbers": [1, [2]]}', 400, "/numbers/1"),
    (b'{"numbers": [1], "more": 2}', 400, "/more"),
    (b'{"number": [1]}', 400, "/number"),
    (b"[" * 100_000, 400, None),
]


@pytest.mark.parametrize(("body", "status", "pointer"), BODIES, ids=lambda value: repr(value)[:30])
def test_bodies(url: str, key: str, body: bytes, status: int, pointer: str | None) -> None:
    reply = call(url, body, token=key, headers={"x-request-id": "bad-body"})
    assert (reply.status, reply.error["code"]) == (status, "invalid_input")
    assert reply.headers["x-request-id"] == "bad-body"
    if pointer:
        assert pointer in reply.error["message"]
        assert reply.error["details"]["pointer"].startswith(pointer)
        assert {"expected", "received"} <= set(reply.error["details"])


def test_a_wrong_shape_tells_the_command_line_too(argosy: Argosy, steady: str) -> None:
    said = argosy.fails("service", "run", steady, "-d", '{"numbers": [1, "b"]}')
    assert "/numbers/1" in said and "'b'" in said


def test_keys_that_are_wrong(url: str, key: str) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": key}, {"authorization": "Bearer "}):
        reply = call(url, {"numbers": [1]}, headers=headers)
        assert (reply.status, reply.error["code"]) == (401, "unauthorized")
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert key not in reply.content.decode()


def test_paths_that_are_wrong(argosy: Argosy, url: str, key: str) -> None:
    gateway = argosy.address["gateway_url"]
    for path in ("/", "/api/v1/service/nobody/score", "/api/v1/service/stead/score", "/nothing"):
        reply = call(gateway + path, {"numbers": [1]}, token=key)
        assert reply.status == 404, path
        assert reply.error["message"]
    base = url.removesuffix("/score")
    for path in ("/livez", "/readyz", "/metrics", "/nothing", "/../steady2/score"):
        assert call(base + path, token=key).status == 404, path
    assert call(url, token=key).status == 405, "scoring is a POST"
    for path in ("/livez", "/readyz", "/metrics"):
        assert call(gateway + path).status == 404, "for the machine, not for callers"


def test_a_body_that_is_too_large(argosy: Argosy, steady: str, url: str, key: str, tmp_path: Path) -> None:
    """Refused as soon as its length is known: the caller need not send it, and what it sent is read away."""
    parts = urlsplit(url)
    with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=30) as connection:
        connection.sendall(
            f"POST {parts.path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
            "Content-Type: application/json\r\nContent-Length: 20000001\r\n\r\n".encode()
        )
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
            if b"limit_bytes" in answer:
                break
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'"code":"too_large"' in answer and b'"limit_bytes":20000000' in answer
    (tmp_path / "large.json").write_bytes(b'{"numbers": [' + b" " * 30_000_000 + b"1]}")
    said = argosy.fails("service", "run", steady, "-d", "@large.json", cwd=tmp_path)
    assert "20,000,000" in said or "20000000" in said


def test_a_content_type_that_nobody_reads(url: str, key: str) -> None:
    reply = call(url, b"PK", token=key, headers={"content-type": "application/zip"})
    assert (reply.status, reply.error["code"]) == (415, "unsupported_media_type")


def test_garbage_on_the_wire(argosy: Argosy, url: str) -> None:
    """No HTTP at all, on both ports: an answer or a closed connection, soon, and nothing in between."""
    for port in (urlsplit(url).port, argosy.address["port"]):
        for garbage in (
            b"\x16\x03\x01\x02\x00\x01",
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000,
            b"\r\n\r\n\0",
        ):
            with socket.create_connection(("127.0.0.1", port or 0), timeout=30) as connection:
                try:
                    connection.sendall(garbage)
                    connection.shutdown(socket.SHUT_WR)
                    answer = connection.recv(1000)
                except ConnectionError:
                    continue
                except OSError as closed:
                    if closed.errno != errno.ENOTCONN:
                        raise
                    continue
                assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))


def test_tokens_that_are_wrong(argosy: Argosy, key: str) -> None:
    api = argosy.address["url"]
    for token in (None, "wrong", key):
        reply = call(f"{api}/v1/services", token=token)
        assert (reply.status, reply.error["code"]) == (401, "unauthorized")
    stranger = Argosy(argosy.home, {"ARGOSY_TOKEN": "wrong", "ARGOSY_URL": api})
    assert "ARGOSY_TOKEN" in stranger.fails("service", "list")


def test_requests_to_the_control_plane_that_do_not_validate(argosy: Argosy) -> None:
    api, token = argosy.address["url"], (argosy.home / "token").read_text().strip()
    for path, body in (
        ("/v1/models", b"nonsense"),
        ("/v1/models", {"name": "bad"}),
        ("/v1/models", {"name": "bad", "files": [{"path": "../x", "sha256": "0" * 64, "size_bytes": 1}]}),
        ("/v1/models", {"name": "bad", "files": [{"path": "x", "sha256": "../../token", "size_bytes": 1}]}),
        ("/v1/manifests", {"name": "bad", "surprise": 1}),
        ("/v1/services", {"name": "bad"}),
        ("/v1/services", {"name": "bad", "image": "steady:1", "settings": {"no_such": 1}}),
        ("/v1/services", {"name": "bad", "image": "steady:1", "settings": {"max_concurrent_requests": 0}}),
        ("/v1/services", {"name": "bad", "image": "steady:1", "replicas": -1}),
    ):
        reply = call(api + path, body, token=token)
        assert reply.status in (400, 422), (path, body, reply.content)
        assert reply.error["message"]
    assert call(f"{api}/v1/models/steady/1/files/..%2f..%2ftoken", token=token).status in (400, 404)
    assert call(f"{api}/v1/nothing", token=token).error["code"] == "not_found"
    reply = call(f"{api}/v1/services/steady", {"replicas": 1}, method="PATCH", token=token, headers={"If-Match": '"0"'})
    assert (reply.status, reply.error["code"]) == (412, "precondition_failed")

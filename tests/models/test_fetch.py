import contextlib
import datetime
import http.server
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from argosy.errors import FetchFailed, InvalidOption, TooLarge
from argosy.models import wire
from argosy.models.fetch import Policy, _safe_name, checked_url, fetch
from argosy.models.paths import check_path
from argosy.models.wire import Pace, is_public
from argosy.store.blobs import LocalBlobs

Serve = Callable[..., str]
QUICK = Pace(connect_timeout_s=2, opening_timeout_s=1.0, silence_timeout_s=0.5, slowest_bytes_per_s=1000, window_s=0.4)
LOCAL = Policy(limit_bytes=1_000_000, allow_private=True, pace=QUICK)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A loopback server that answers each connection with the next list of pieces, waiting `pause_s` before each."""
    closers: list[Callable[[], None]] = []

    def start(*answers: list[bytes], pause_s: float = 0.0, tls: ssl.SSLContext | None = None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.1)
        stop = threading.Event()

        def answer(connection: socket.socket, pieces: list[bytes]) -> None:
            connection.settimeout(10)
            if tls:
                connection = tls.wrap_socket(connection, server_side=True)
            with connection:
                received = b""
                while b"\r\n\r\n" not in received:
                    if not (piece := connection.recv(65536)):
                        return
                    received += piece
                for piece in pieces:
                    if stop.wait(pause_s):
                        return
                    connection.sendall(piece)

        def accept() -> socket.socket:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    return listener.accept()[0]
            raise OSError("the test is over")

        def run() -> None:
            for pieces in answers:
                try:
                    answer(accept(), pieces)
                except OSError:
                    continue  # the client hung up, or the test is over

        thread = threading.Thread(target=run)
        thread.start()

        def close() -> None:
            stop.set()
            thread.join()
            listener.close()

        closers.append(close)
        return f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for close in closers:
        close()


def ok(body: bytes, *headers: str) -> list[bytes]:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
    return ["\r\n".join(lines).encode(), body]


def redirect(to: str, status: int = 302) -> list[bytes]:
    return [f"HTTP/1.1 {status} Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()]


def nothing_stored(blobs: LocalBlobs) -> bool:
    return not [path for path in blobs.incoming.parent.rglob("*") if path.is_file()]


def test_a_file_arrives(blobs: LocalBlobs, serve: Serve) -> None:
    body, steps = os.urandom(700_000), list[tuple[int, int | None]]()
    url = serve(ok(body)) + "/models/iris%20v2.pkl?signature=secret#part"
    found = fetch(url, blobs, LOCAL, lambda done, total: steps.append((done, total)))
    assert blobs.path(found.blob.sha256).read_bytes() == body
    assert found.name == "iris v2.pkl"
    assert found.source == url.partition("?")[0]
    assert steps[-1] == (700_000, 700_000)
    assert steps == sorted(steps)


def test_chunked_and_closed_bodies_arrive(blobs: LocalBlobs, serve: Serve) -> None:
    chunked = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"]
    assert fetch(serve(chunked) + "/m", blobs, LOCAL).blob.size_bytes == 5
    assert fetch(serve([b"HTTP/1.0 200 OK\r\n\r\n", b"abcdefg"]) + "/m", blobs, LOCAL).blob.size_bytes == 7


def test_a_real_server(blobs: LocalBlobs, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "model.bin").write_bytes(bytes(300_000))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "site"))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://localhost:{server.server_port}"
        try:
            assert fetch(f"{url}/model.bin", blobs, LOCAL).blob.size_bytes == 300_000
            with pytest.raises(FetchFailed, match=r"/none could not be fetched: the server answered with HTTP 404"):
                fetch(f"{url}/none", blobs, LOCAL)
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/m",
        "file:///etc/passwd",
        "gopher://x/",
        "//example.com/m",
        "m.pkl",
        "http://",
        "http:///m",
        "http://h:99999/",
        "http://h:0/",
        "http://[::1/",
        "http://h/a b",
        "http://h/a\r\nHost: x",
        "http://h/" + "a" * 5000,
    ],
)
def test_only_web_addresses_are_fetched(url: str) -> None:
    with pytest.raises(InvalidOption):
        checked_url(url)


def test_credentials_are_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidOption) as caught:
        checked_url("https://user:hunter2@example.com/m?token=hunter3")
    assert "hunter" not in caught.value.message
    assert "example.com/m" in caught.value.message


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1", "2130706433", "[::ffff:127.0.0.1]"]
)
def test_this_machine_is_refused(blobs: LocalBlobs, host: str) -> None:
    with pytest.raises(FetchFailed, match=r"is not public|has no address"):
        fetch(f"http://{host}:9/m", blobs, Policy(1000))


PRIVATE = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "239.255.255.250",
    "255.255.255.255",
    "240.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd12::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "2001:db8::1",
]
PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


def test_a_name_with_one_private_address_is_refused(blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    both = [(*entry, ("8.8.8.8", 80)), (*entry, ("10.0.0.8", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    with pytest.raises(FetchFailed, match=r"mixed\.example has the address 10\.0\.0\.8, which is not public"):
        fetch("http://mixed.example/m", blobs, Policy(1000))


def test_a_name_is_resolved_once(blobs: LocalBlobs, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that answers something else the second time gains nothing: there is no second time."""
    port = int(serve(ok(b"x")).rpartition(":")[2])
    asked: list[str] = []

    def resolve(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(wire, "is_public", lambda _: len(asked) == 1)
    assert fetch("http://rebinding.example/m", blobs, Policy(1000, pace=QUICK)).blob.size_bytes == 1
    assert asked == ["rebinding.example"]


def test_redirects_are_followed_and_each_is_checked(
    blobs: LocalBlobs, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = serve(ok(b"secret"), ok(b"secret"))
    first = serve(redirect(f"{target}/model-3.pkl"), redirect(f"{target}/model-3.pkl"))
    found = fetch(f"{first}/latest", blobs, LOCAL)
    assert (found.name, found.source) == ("model-3.pkl", f"{first}/latest")
    # The first hop counts as public here, what it redirects to does not.
    port = int(first.rpartition(":")[2])
    real = wire.checked_addresses

    def checked(host: str, at: int, allow_private: bool, url: str) -> list[tuple[object, ...]]:
        return real(host, at, at == port, url)

    monkeypatch.setattr(wire, "checked_addresses", checked)
    with pytest.raises(FetchFailed, match=r"has the address 127\.0\.0\.1, which is not public"):
        fetch(f"{first}/latest", blobs, Policy(1000, pace=QUICK))


@pytest.mark.parametrize(
    ("to", "problem"),
    [
        ("file:///etc/passwd", "redirects to a URL that cannot be used"),
        ("ftp://127.0.0.1/", "cannot be used"),
        ("http://user:pw@127.0.0.1/", "user name or password"),
        ("", "redirects to nowhere"),
        ("/again", "redirects more than 2 times"),
    ],
)
def test_bad_redirects_end_it(blobs: LocalBlobs, serve: Serve, to: str, problem: str) -> None:
    url = serve(*[redirect(to)] * 3)
    with pytest.raises(FetchFailed, match=problem):
        fetch(url, blobs, Policy(1000, allow_private=True, redirects=2, pace=QUICK))


@pytest.mark.parametrize(
    "answer",
    [
        ok(bytes(2000)),
        [b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\n\r\n", bytes(2000)],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"7d0\r\n" + bytes(2000) + b"\r\n0\r\n\r\n"],
    ],
)
def test_too_much_is_refused(blobs: LocalBlobs, serve: Serve, answer: list[bytes]) -> None:
    with pytest.raises(TooLarge, match="larger than the limit of 1,000 bytes"):
        fetch(serve(answer), blobs, Policy(1000, allow_private=True, pace=QUICK))
    assert nothing_stored(blobs)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b"abc"], "ended after 3 of 10 bytes"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nab"], "the connection broke"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\n"], "the connection broke"),
        ([b"HTTP/1.1 206 Partial\r\nContent-Length: 3\r\n\r\n", b"abc"], "HTTP 206 Partial"),
        ([b"HTTP/1.1 500 Oh\x1b[31m\r\nContent-Length: 0\r\n\r\n"], r"HTTP 500 Oh\[31m\. Check"),
        ([b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n", b"abc"], "compresses the file"),
        ([b"SSH-2.0-OpenSSH_9\r\n"], "the connection broke"),
        ([b""], "the connection broke"),
        ([b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n"], "the connection broke"),
        ([b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000 + b"\r\n\r\n"], "the connection broke"),
    ],
)
def test_bad_answers_end_it(blobs: LocalBlobs, serve: Serve, answer: list[bytes], problem: str) -> None:
    with pytest.raises(FetchFailed, match=problem):
        fetch(serve(answer), blobs, LOCAL)
    assert nothing_stored(blobs)


def test_silence_ends_it(blobs: LocalBlobs, serve: Serve) -> None:
    with pytest.raises(FetchFailed, match="went silent"):
        fetch(serve([b"never"], pause_s=20), blobs, LOCAL)


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", *[b"x"] * 500],
        [*[bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 500]],
        [*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 500],
    ],
)
def test_trickling_ends_it(blobs: LocalBlobs, serve: Serve, pieces: list[bytes]) -> None:
    with pytest.raises(FetchFailed, match="sends next to nothing"):
        fetch(serve(pieces, pause_s=0.05), blobs, LOCAL)
    assert nothing_stored(blobs)


def test_answers_without_end_are_cut_off(blobs: LocalBlobs, serve: Serve) -> None:
    """Fast enough for the pace, and still no answer."""
    url = serve([b"HTTP/1.1 100 Continue\r\n\r\n" * 100] * 1000, pause_s=0.02)
    with pytest.raises(FetchFailed, match="sends next to nothing"):
        fetch(url, blobs, LOCAL)


def test_nobody_there(blobs: LocalBlobs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(FetchFailed, match="does not answer"):
        fetch(f"http://127.0.0.1:{port}/m", blobs, LOCAL)
    with pytest.raises(FetchFailed, match="has no address"):
        fetch("http://no-such-host.invalid/m", blobs, LOCAL)


def test_what_progress_raises_ends_the_fetch(blobs: LocalBlobs, serve: Serve) -> None:
    def cancelled(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(serve(ok(bytes(1000))), blobs, LOCAL, cancelled)
    assert nothing_stored(blobs)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Self-signed, for 127.0.0.1, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "argosy test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_https_with_a_trusted_certificate(
    blobs: LocalBlobs, serve: Serve, certificate: Path, server_tls: ssl.SSLContext
) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    policy = Policy(1_000_000, allow_private=True, pace=QUICK, tls=trusting)
    body = os.urandom(600_000)
    url = serve(ok(body), redirect("http://127.0.0.1/m"), tls=server_tls)
    assert fetch(f"{url}/m.onnx", blobs, policy).blob.size_bytes == len(body)
    with pytest.raises(FetchFailed, match="from https to http"):
        fetch(f"{url}/m.onnx", blobs, policy)


def test_https_failures_are_told(
    blobs: LocalBlobs, serve: Serve, certificate: Path, server_tls: ssl.SSLContext
) -> None:
    with pytest.raises(FetchFailed, match=r"no secure connection to 127\.0\.0\.1: self.signed certificate"):
        fetch(serve(ok(b"x"), tls=server_tls), blobs, LOCAL)
    trusting = Policy(1000, allow_private=True, pace=QUICK, tls=ssl.create_default_context(cafile=str(certificate)))
    wrong_name = serve(ok(b"x"), tls=server_tls).replace("127.0.0.1", "localhost")
    with pytest.raises(FetchFailed, match="no secure connection to localhost: Hostname mismatch"):
        fetch(wrong_name, blobs, trusting)
    with pytest.raises(FetchFailed, match="no secure connection"):
        fetch(serve(ok(b"plain")).replace("http:", "https:"), blobs, trusting)


@pytest.mark.parametrize(
    ("path", "header", "name"),
    [
        ("/a/b/model.pkl", None, "model.pkl"),
        ("/", None, "model"),
        ("/%2e%2e", None, "model"),
        ("/..%2f..%2fetc%2fpasswd", None, "passwd"),
        ("/x%00%0a.pkl", None, "x__.pkl"),
        ("/.bashrc", None, "bashrc"),
        ("/download", 'attachment; filename="iris v1.pkl"', "iris v1.pkl"),
        ("/download", "attachment; filename*=UTF-8''m%C3%B6del.pkl", "model.pkl".replace("o", "ö")),
        ("/d", 'attachment; filename="../../../etc/cron.d/evil.sh"', "evil.sh"),
        ("/d", 'attachment; filename="..\\\\..\\\\evil.exe"', "evil.exe"),
        ("/d", 'attachment; filename=""', "d"),
    ],
)
def test_names_are_safe(blobs: LocalBlobs, serve: Serve, path: str, header: str | None, name: str) -> None:
    headers = [f"Content-Disposition: {header}"] if header else []
    assert fetch(serve(ok(b"x", *headers)) + path, blobs, LOCAL).name == name


@given(st.text(max_size=300))
def test_any_name_becomes_a_safe_one(name: str) -> None:
    safe = _safe_name(name)
    assert safe is None or ("/" not in check_path(safe) and safe not in (".", ".."))

"""How a registry is spoken with: TLS unless agreed otherwise, and never away from it."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from argosy.errors import RegistryFailed, RegistryRefused
from argosy.images.distribution.logins import Login
from argosy.images.distribution.names import ImageName
from argosy.images.distribution.patience import Patience, wanted_s
from argosy.images.distribution.pull import resolve
from argosy.images.distribution.session import RegistrySession, trusted
from images.distribution.conftest import Secured

NOBODY = Login()


@pytest.mark.parametrize(
    ("host", "plain_http", "url"),
    [
        ("r.example", False, "https://r.example/v2/"),
        ("r.example:5000", False, "https://r.example:5000/v2/"),
        ("r.example:5000", True, "http://r.example:5000/v2/"),
        ("127.0.0.1.example", False, "https://127.0.0.1.example/v2/"),
        ("docker.io", False, "https://registry-1.docker.io/v2/"),
    ],
)
def test_plain_http_must_be_agreed(host: str, plain_http: bool, url: str) -> None:
    with RegistrySession(host, NOBODY, plain_http, trusted()) as session:
        assert session.url("v2/") == url
        assert session.url("https://other.example/x?y=z") == "https://other.example/x?y=z"


def test_a_registry_on_this_machine_may_have_tls_or_not(plain_registry: str, secured_registry: Secured) -> None:
    with RegistrySession(plain_registry, NOBODY, False, trusted()) as session:
        assert session.url("v2/").startswith("http://")
    with RegistrySession(secured_registry.host, NOBODY, False, trusted()) as session:
        assert session.url("v2/").startswith("https://")


def test_tls_is_not_left_again() -> None:
    with (
        RegistrySession("r.example", NOBODY, False, trusted()) as session,
        pytest.raises(RegistryFailed, match=r"sends us on to http://r\.example/upload\. .*X-Forwarded-Proto"),
    ):
        session.url("http://r.example/upload?secret=s")


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Speaks HTTP, and knows nothing of registries."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_is_no_registry_is_refused(silent_server: str) -> None:
    with (
        RegistrySession(silent_server, NOBODY, False, trusted()) as session,
        pytest.raises(RegistryRefused, match=f"{silent_server} has no team/iris:1"),
    ):
        resolve(session, ImageName(silent_server, "team/iris", "1"))


def test_certificates_are_checked() -> None:
    context = trusted()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("soon", None), ("", None), ("-1", None)],
)
def test_retry_after_is_a_number_or_a_date(header: str, seconds: float | None) -> None:
    assert wanted_s(httpx.Response(429, headers={"retry-after": header})) == seconds


def test_pauses_grow_up_to_the_longest() -> None:
    pauses: list[float] = []
    patience = Patience(first_s=1.0, longest_s=5.0, sleep=pauses.append)
    for attempt in range(1, 7):
        patience.pause("r.example", attempt)
    assert all(0.5 * 2**n <= min(pause, 4.0) <= 2**n for n, pause in enumerate(pauses[:3]))
    assert max(pauses) <= 5.0

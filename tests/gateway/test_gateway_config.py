"""The generated file: its exact text, its shape, and that every HAProxy takes it without a warning."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from argosy.gateway.capacity import connection_limit, thread_count
from argosy.gateway.config import Description, Listener, backend_of, render, service_of, shape_of
from argosy.gateway.routes import Route, Server, checked

GOLDEN = Path(__file__).with_name("haproxy.golden.cfg")
LISTENER = Listener("127.0.0.1", 7780, Path("/home/u/.argosy/run/relay"), "0123456789abcdef", 2, 9500)
ROUTES = checked(
    [
        Route("iris", (Server("iris-1-a", "unix@/run/a"), Server("iris-2-b", "127.0.0.1:5001")), 60_000, 108),
        Route("7.digits", (), 500, 64),
        Route("nap", (), 60_000, 64, "unix@/home/u/.argosy/run/hold"),
    ]
)


def test_the_file_is_exactly_this() -> None:
    assert render(LISTENER, ROUTES) == GOLDEN.read_text()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "0.0.0.0", "::"])
def test_haproxy_takes_it_without_a_warning(haproxy: str, tmp_path: Path, host: str) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text(render(replace(LISTENER, host=host), ROUTES))
    result = subprocess.run([haproxy, "-c", "-f", str(file)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_with_a_certificate_the_bind_line_is_tls() -> None:
    text = render(replace(LISTENER, pem=Path("/h/tls.pem"), pem_digest="d"), ROUTES)
    assert "bind 127.0.0.1:7780 ssl crt /h/tls.pem alpn h2,http/1.1\n" in text
    assert "set-header x-forwarded-proto https\n" in text
    assert "ssl-min-ver TLSv1.2" in text


def test_only_servers_and_guards_leave_the_shape_as_it_is() -> None:
    shape = shape_of(LISTENER, ROUTES)
    fewer = tuple(replace(route, servers=(), max_connections=1) for route in ROUTES)
    assert shape_of(LISTENER, fewer) == shape
    slower = (ROUTES[0], replace(ROUTES[1], timeout_ms=61_000), ROUTES[2])
    awake = (*ROUTES[:2], replace(ROUTES[2], hold=None))
    others = [
        shape_of(LISTENER, ROUTES[:1]),
        shape_of(LISTENER, slower),
        shape_of(LISTENER, awake),
        shape_of(replace(LISTENER, port=1), ROUTES),
        shape_of(replace(LISTENER, pem_digest="renewed"), ROUTES),
    ]
    assert len({shape, *others}) == 6


def test_workers_are_cut_only_after_the_longest_request() -> None:
    text = render(LISTENER, [replace(ROUTES[1], timeout_ms=600_000)])
    assert "hard-stop-after 610000ms" in text
    assert "timeout server 605000ms" in text


def test_a_description_is_read_back() -> None:
    description = Description("abc", 7780, "def")
    assert Description.parse(str(description)) == description
    for foreign in ("", "argosy", "argosy a b c", "nginx abc 7780 def", "argosy abc 7780 def more"):
        assert Description.parse(foreign) is None


def test_no_service_can_be_named_like_another_backend() -> None:
    assert service_of(backend_of("iris")) == "iris"
    assert service_of("no_service") is service_of("relay") is None


def test_connections_follow_the_limit_of_open_files() -> None:
    assert connection_limit(1024) == 384
    assert connection_limit(20_000) == 9_500
    assert connection_limit(10**9) == connection_limit(-1) == 10_000
    assert connection_limit() > 0
    assert 1 <= thread_count() <= 4

"""HAProxy's file, written whole from the route table. Pure: the same input gives the same bytes.

The file's `description` names the home and the *shape*: a digest of all but the server lines. A running HAProxy tells
both, which proves whose it is and whether a change needs a reload (other shape) or only runtime commands.

A worker that a reload has retired keeps its idle client connections until their next request (closing them at once
would race with that request). It must not send such a request to a replica by itself, since nobody can tell a retired
worker that a replica left. So it hands it on to the current worker over the `relay` socket: the `stopping` rules.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from argosy.gateway import answers
from argosy.gateway.routes import HOLD, Route, Server

_SERVER_MARGIN_MS = 5_000
_KEEP_ALIVE_S = 60
_BACKEND = "service_"
# Who holds requests bounds them by itself; without any number HAProxy could not say how many more it takes.
_HELD = 1_000_000


@dataclass(frozen=True)
class Listener:
    """Where HAProxy listens and what the machine gives it. `pem` is certificate chain and key in one file, or None.

    `pem_digest` makes a renewed certificate another shape. `relay` is the socket between workers.
    """

    host: str
    port: int
    relay: Path
    home_id: str
    threads: int
    max_connections: int
    pem: Path | None = None
    pem_digest: str = ""


@dataclass(frozen=True)
class Description:
    """What a running HAProxy says of itself."""

    home_id: str
    port: int
    shape: str

    @classmethod
    def parse(cls, text: str) -> "Description | None":
        """None when the text is not ours."""
        words = text.split()
        if len(words) != 4 or words[0] != "argosy" or not words[2].isdigit():
            return None
        return cls(words[1], int(words[2]), words[3])

    def __str__(self) -> str:
        return f"argosy {self.home_id} {self.port} {self.shape}"


def backend_of(service: str) -> str:
    """`_` is in no service name, so no request can name a backend that is not a service's."""
    return _BACKEND + service


def service_of(backend: str) -> str | None:
    return backend.removeprefix(_BACKEND) if backend.startswith(_BACKEND) else None


def shape_of(listener: Listener, routes: Sequence[Route]) -> str:
    """Digest of everything in the file that runtime commands cannot change."""
    bare = [replace(route, servers=(), max_connections=1) for route in routes]
    text = _render(listener, bare, "") + listener.pem_digest
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def render(listener: Listener, routes: Sequence[Route]) -> str:
    return _render(listener, routes, shape_of(listener, routes))


def server_options(route: Route) -> str:
    """Options of a server line, in the file as in `add server` (which inherits no defaults).

    Only failed connections count as errors: an answer of any status says the replica lives. A crashed replica is left
    out at the third refused connection, and each of those requests was repeated on another replica. Without
    `pool-max-conn` HAProxy 2.6 keeps no idle connection to a server that was added, and opens one for each request.
    """
    return (
        f"maxconn {route.max_connections} check inter 1s fastinter 500ms downinter 500ms fall 2 rise 1 "
        "observe layer4 error-limit 3 on-error mark-down pool-purge-delay 1s pool-max-conn -1"
    )


def server_line(route: Route, server: Server) -> str:
    return f"server {server.name} {server.address} {server_options(route)}"


def _render(listener: Listener, routes: Sequence[Route], shape: str) -> str:
    sections = [
        _section("global", _global(listener, routes, shape)),
        _section("defaults", _defaults()),
        _section("frontend gateway", _frontend(listener)),
        _section("backend no_service", answers.service_not_found()),
        _section("backend relay", _relay(listener, routes)),
        *(_section(f"backend {backend_of(route.service)}", _service(route)) for route in routes),
    ]
    return "# Generated whole by Argosy at every change; edits are lost.\n\n" + "\n".join(sections)


def _section(title: str, lines: Sequence[str]) -> str:
    return title + "\n" + "".join(f"    {line}\n" for line in lines)


def _longest_ms(routes: Sequence[Route]) -> int:
    return max((route.timeout_ms for route in routes), default=0) + _SERVER_MARGIN_MS


def _global(listener: Listener, routes: Sequence[Route], shape: str) -> list[str]:
    # A retired worker ends when its last request is done and its last idle client connection is gone; this bounds it.
    hard_stop_ms = max(_longest_ms(routes), _KEEP_ALIVE_S * 1000) + _SERVER_MARGIN_MS
    return [
        f"description {Description(listener.home_id, listener.port, shape)}",
        f"maxconn {listener.max_connections}",
        f"nbthread {listener.threads}",
        f"hard-stop-after {hard_stop_ms}ms",
        # Without it a second HAProxy binds the same port in silence and takes half of the connections.
        "noreuseport",
        "no strict-limits",
        "ssl-default-bind-options ssl-min-ver TLSv1.2",
    ]


def _defaults() -> list[str]:
    return [
        "mode http",
        "timeout connect 2s",
        "timeout client 30s",
        "timeout client-fin 5s",
        "timeout server 30s",
        "timeout queue 5s",
        "timeout http-request 10s",
        f"timeout http-keep-alive {_KEEP_ALIVE_S}s",
        # A client that has gone away frees its place in the replica's queue.
        "option abortonclose",
        "option idle-close-on-response",
        "option dontlognull",
        "option http-ignore-probes",
        "balance leastconn",
        "http-reuse safe",
        # Only what certainly never ran is repeated: no connection, or refused by the replica before it started (425).
        # An empty answer is not: the request may have run. A request that does not fit a buffer (16 kB) is not repeated
        # either; larger buffers cost every request 3 us.
        "retries 1",
        "option redispatch 1",
        "retry-on conn-failure 425",
        *answers.failure_lines(),
    ]


def _frontend(listener: Listener) -> list[str]:
    scheme = "https" if listener.pem else "http"
    tls = f" ssl crt {listener.pem} alpn h2,http/1.1" if listener.pem else ""
    address = f"[{listener.host}]" if ":" in listener.host else listener.host
    # JSON lines; the query is left out (it may hold secrets), and of the headers only the request id is kept.
    log_format = (
        '{"time_ms":%[date(0,ms)],"client":"%ci","backend":"%b","server":"%s","method":"%HM",'
        '"path":"%[var(txn.path),bytes(0,256),json(utf8s)]","status":%ST,"bytes_in":%U,"bytes_out":%B,'
        '"total_ms":%Ta,"queue_ms":%Tw,"connect_ms":%Tc,"answer_ms":%Tr,"retries":"%rc","end":"%tsc",'
        '"request_id":"%[var(txn.id)]"}'
    )
    return [
        f"bind {address}:{listener.port}{tls}",
        f"bind unix@{listener.relay} mode 600 accept-proxy",
        "log stdout len 4096 format raw local0 info",
        f"log-format '{log_format}'",
        "unique-id-format %[uuid]",
        *_identify(),
        *_forward(scheme),
        *_turn_away(),
        *_final_answer(),
        "use_backend relay if { stopping }",
        f"use_backend {_BACKEND}%[var(txn.service)]",
        "default_backend no_service",
    ]


def _identify() -> list[str]:
    return [
        "http-request set-log-level silent if { stopping }",
        # Printable, and nothing that JSON would have to escape.
        "http-request set-var(txn.id) req.hdr(x-request-id) if { req.hdr(x-request-id) -m reg '^[]!#-Z^-~[]{1,128}$' }",
        "http-request set-var(txn.id) unique-id unless { var(txn.id) -m found }",
        "http-request set-header x-request-id %[var(txn.id)]",
        "http-request set-var(txn.path) path",
        "http-request set-var(txn.service) path,field(5,/) if { path_beg /api/v1/service/ }",
    ]


def _forward(scheme: str) -> list[str]:
    """Nothing that we tell replicas is believed when a client says it."""
    return [
        "http-request del-header x-argosy- -m beg",
        "http-request del-header x-forwarded- -m beg",
        "http-request del-header forwarded",
        "http-request set-header x-argosy-arrival %[date(0,ms)]",
        f"http-request set-header x-forwarded-proto {scheme}",
        "http-request set-header x-forwarded-host %[req.hdr(host)]",
        "http-request set-header x-forwarded-for %[src]",
    ]


def _turn_away() -> list[str]:
    """Paths that reach no replica. Decoded first, since a replica decodes them too; a cheap look saves most of that."""
    suspect = "{ path -m sub /. % livez readyz metrics }"
    return [
        answers.not_found("unless { path_beg /api/v1/service/ }"),
        answers.not_found(f"if {suspect} {{ path,url_dec -m reg (/|^)[.][.]?(/|$) }}"),
        answers.not_found(f"if {suspect} {{ path,url_dec -m reg ^/api/v1/service/[^/]*/+(livez|readyz|metrics)/*$ }}"),
    ]


def _final_answer() -> list[str]:
    """A replica refuses what it never started with 425, so that it can be repeated. The client gets 429, or 503."""
    shed = "{ status 425 } { res.hdr(x-argosy-shed) -m found }"
    return [
        f"http-response set-status 503 if {shed} {{ res.hdr(x-argosy-overload) -m str 503 }}",
        f"http-response set-status 429 if {shed}",
        "http-response del-header x-argosy-shed",
        "http-response del-header x-argosy-overload",
    ]


def _relay(listener: Listener, routes: Sequence[Route]) -> list[str]:
    return [
        "http-reuse never",
        f"timeout server {_longest_ms(routes)}ms",
        f"server current unix@{listener.relay} send-proxy-v2",
    ]


def _service(route: Route) -> list[str]:
    # A model that holds the interpreter answers no check while it computes: that is not unready, so a check waits
    # about as long as a request may take. A refused connection or an answer of 503 counts at once.
    check_ms = min(max(route.timeout_ms, 2_000), 30_000)
    return [
        f"timeout server {route.timeout_ms + _SERVER_MARGIN_MS}ms",
        f"timeout check {check_ms}ms",
        # Alone, a replica that refuses has nobody beside it: asking it again would double what refusing costs.
        "http-request disable-l7-retry if { nbsrv le 1 }",
        # A queue would keep callers waiting for work that replicas then refuse, and each costs more than this answer.
        answers.shed(route.overload_status, "if { be_conn_free le 0 } { nbsrv gt 0 }"),
        "option httpchk",
        "http-check send meth GET uri /readyz ver HTTP/1.1 hdr host gateway hdr connection close",
        "http-check expect status 200",
        *(server_line(route, server) for server in route.servers),
        # Not checked: when nobody listens there, the connection fails and the answer is 503 all the same.
        *([f"server {HOLD} {route.hold} maxconn {_HELD} backup"] if route.hold else []),
    ]

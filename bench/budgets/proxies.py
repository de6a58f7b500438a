"""B7: what the gateway adds to a request, against nginx as a reverse proxy before the same kind of replica."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from bench import argosy_rows, closed_loop, connections, machine, process_tree
from bench.cases import CASES
from bench.connections import Target
from bench.peers import model_environ
from bench.process_tree import Tree
from bench.results import middle
from bench.servers import scratch, serving

_NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream replica {{ server unix:{folder}/sock; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://replica; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""
_CASE = CASES["iris"]


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        raise RuntimeError("nginx is not installed: apt-get install nginx")
    found: dict[str, list[tuple[float, float]]] = {"nginx": [], "gateway": []}
    bare: list[float] = []
    for _ in range(rounds):
        with serving("argosy", _CASE) as running:
            bare.append(_p50_ms(running.target, seconds))
        with _behind_nginx(nginx) as (tree, target):
            found["nginx"].append(_costs(tree, "nginx", target, seconds))
        with serving("argosy-gateway", _CASE) as running:
            found["gateway"].append(_costs(running.tree, "haproxy", running.target, seconds))
    pairs = list(zip(found["gateway"], found["nginx"], strict=True))
    return {
        "cpu_us": {name: middle([cpu for cpu, _ in values]) for name, values in found.items()},
        "cpu_ratio": middle([ours[0] / theirs[0] for ours, theirs in pairs]),
        "added_p50_ms": middle([ours[1] - alone for (ours, _), alone in zip(pairs, bare, strict=True)]),
        "nginx_added_p50_ms": middle([theirs[1] - alone for (_, theirs), alone in zip(pairs, bare, strict=True)]),
    }


def _costs(tree: Tree, program: str, target: Target, seconds: float) -> tuple[float, float]:
    """CPU microseconds per request of the proxy alone at 16 connections; the median latency at one."""

    def is_proxy(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return program in process.name()
        return False

    closed_loop.run(target, 16, 1.0)
    before = process_tree.cpu_of(tree.members(is_proxy))
    seen = closed_loop.run(target, 16, seconds)
    cpu_s = process_tree.cpu_of(tree.members(is_proxy)) - before
    if seen.failed or not cpu_s:
        raise RuntimeError(f"{program}: {dict(seen.outcomes)}, {cpu_s} s of CPU")
    return cpu_s / seen.answered * 1e6, _p50_ms(target, seconds)


def _p50_ms(target: Target, seconds: float) -> float:
    return closed_loop.run(target, 1, seconds).p50_ms


@contextlib.contextmanager
def _behind_nginx(nginx: str) -> Iterator[tuple[Tree, Target]]:
    with scratch() as folder, contextlib.ExitStack() as stack:
        port = machine.free_port()
        (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, port=port))
        start = argosy_rows.prepare_replica(Path(folder), _CASE, overload=False, unix=str(folder / "sock"))
        environ = {**machine.clean_environ(**model_environ(_CASE)), **start.environ}
        replica = process_tree.start(start.argv, environ, folder)
        stack.callback(replica.stop)
        connections.wait_until_answered(start.target, replica.is_alive, 60)
        # Its workers run as nobody otherwise, who may not see the socket.
        user = ["-g", "user root;"] if machine.is_root() else []
        proxy = process_tree.start([nginx, "-c", folder / "nginx.conf", *user], machine.clean_environ(), folder)
        stack.callback(proxy.stop)
        target = Target(port, "/score", start.target.body, start.target.headers)
        connections.wait_until_answered(target, proxy.is_alive, 30)
        yield proxy, target

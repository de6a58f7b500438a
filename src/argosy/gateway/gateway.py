"""The gateway of a home: makes one HAProxy serve exactly the route table, and tells what it does.

Only servers changed: runtime commands to the running worker. Anything else changed (services, timeouts, address,
certificate): a new worker takes over in a hitless reload. Either way the file is written whole first, so that a
restart or a reload at any moment serves the same table.
"""

import hashlib
import os
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argosy.errors import GatewayFailed
from argosy.gateway import logs, plan
from argosy.gateway.binary import Binary, find_binary
from argosy.gateway.capacity import connection_limit, thread_count
from argosy.gateway.config import Listener, backend_of, render, service_of, shape_of
from argosy.gateway.counters import Counters
from argosy.gateway.master import ServerState
from argosy.gateway.routes import Route, checked
from argosy.gateway.supervisor import Running, Supervisor, check_port, free_port
from argosy.gateway.tls import TlsFiles
from argosy.keys import write_private
from argosy.settings import Home, Settings

# While the control plane is away nobody rotates: the kernel then stops the log at this many times its limit.
_LOG_HARD_FACTOR = 4
_LOG_HARD_LEAST_BYTES = 4_000_000


@dataclass(frozen=True)
class _Verified:
    """A worker that was seen to serve this file, with nothing left to delete."""

    worker: int
    text: str


class Gateway:
    """Safe to use from several threads; changes are made one after the other. Its methods block, some for a second."""

    def __init__(self, home: Home, settings: Settings, tls: TlsFiles | None = None) -> None:
        self._home = home
        self._settings = settings
        self._tls = tls
        self._port = settings.gateway_port
        self._home_id = hashlib.sha256(os.fsencode(home.path.resolve())).hexdigest()[:16]
        self._config = home.gateway / "haproxy.cfg"
        self._log = home.logs / "gateway.log"
        self._supervisor = Supervisor(home.run, self._log, self._config, self._home_id)
        self._master = self._supervisor.master
        self._lock = threading.RLock()
        self._verified: _Verified | None = None
        self._binary: Binary | None = None
        self._counters = Counters()

    @property
    def port(self) -> int:
        """The public port; 0 until it was chosen by the first `ensure_running`."""
        return self._port

    def ensure_running(self, routes: Sequence[Route]) -> None:
        """Adopt the running HAProxy of this home, or start it; afterwards it serves `routes`.

        Cheap when there is nothing to do; call it every second or so. Raises PortInUse and GatewayFailed.
        """
        with self._lock:
            table = checked(routes)
            running = self._find()
            if running is None:
                self._start(table)
            else:
                self._apply(table, running)

    def apply(self, routes: Sequence[Route]) -> None:
        """Make the running HAProxy serve exactly `routes`, without losing a request, and return when it does.

        A server that left is drained, not waited for: ask `in_use`, then stop it. A later `apply`, `ensure_running`
        or `tidy` forgets it. A server in `routes` that was drained takes requests again.
        Raises GatewayFailed when HAProxy does not run or does not obey; it then serves what it served before.
        """
        with self._lock:
            table = checked(routes)
            running = self._find()
            if running is None:
                raise GatewayFailed(f"The gateway does not run. See {self._log}.")
            self._apply(table, running)

    def drain(self, service: str, server: str) -> None:
        """Send it no new requests; those it has are finished. Nothing happens when HAProxy does not know it."""
        with self._lock:
            running = self._find()
            self._verified = None
            if running is not None:
                known = [s for s in self._master.servers(running.worker) if (s.service, s.name) == (service, server)]
                for state in known:
                    if not state.draining:
                        self._obey(running, [plan.Step(f"set server {backend_of(service)}/{server} state drain")])

    def in_use(self, service: str, server: str) -> int:
        """Requests that HAProxy has under way to this server; 0 when it has none or does not know the server.

        Workers retired by a reload are asked too. They send no new requests to replicas (they pass them to the
        current worker), so after a drain the number only falls, and 0 stays 0.
        """
        running = self._find()
        if running is None:
            return 0
        scope = f"{backend_of(service)} 4 -1"
        rows = self._master.statistics(running.worker, scope)
        for pid in running.retired:
            rows += self._master.retired_statistics(pid, scope)
        return sum(int(row["scur"] or 0) + int(row["qcur"] or 0) for row in rows if row["svname"] == server)

    def tidy(self) -> None:
        """Delete the drained servers that have nothing under way any more."""
        with self._lock:
            running = self._find()
            if running is not None:
                self._delete_idle(running, [s for s in self._master.servers(running.worker) if s.draining])

    def rotate_logs(self) -> None:
        """Keep gateway.log below `log_limit_bytes`, with one older file. Call it every few seconds.

        When nobody calls it, the kernel stops the log at four times the limit (at least 4 MB): HAProxy serves on and
        further lines are lost until the next call.
        """
        logs.rotate(self._log, self._settings.log_limit_bytes)

    def stop(self, timeout_s: float) -> None:
        """End HAProxy. Requests under way get `timeout_s` to finish, then they are cut."""
        with self._lock:
            self._verified = None
            self._supervisor.stop(timeout_s)

    def status(self) -> dict[str, Any]:
        """`state` is running or stopped; the rest is None or empty when it is stopped."""
        running = self._find()
        state: dict[str, Any] = {
            "state": "running" if running else "stopped",
            "url": self._url() if self._port else None,
            "port": self._port,
            "pid": running.master if running else None,
            "version": running.version if running else None,
            "binary": _executable(running.master) if running else None,
            "uptime_s": running.uptime_s if running else None,
            "services": [],
            "retired_workers": len(running.retired) if running else 0,
        }
        if running:
            rows = self._master.statistics(running.worker, "-1 2 -1")
            state["services"] = sorted(service for row in rows if (service := service_of(row["pxname"])))
        return state

    def counters(self) -> dict[str, dict[str, int]]:
        """Per service, since this object was made: requests, responses_1xx to responses_5xx, bytes_in, bytes_out,
        retries, connect_errors; and as they are now: sessions, queued, ready_servers.

        Summed over reloads; what a retired worker still did after the last call and before its end is missing.
        """
        running = self._find()
        if running is None:
            return {}
        return self._counters.read(self._master, running)

    def _find(self) -> Running | None:
        running = self._supervisor.find()
        if running is not None and not self._port:
            self._port = running.description.port
        return running

    def _url(self) -> str:
        host = self._settings.host
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)
        return f"{'https' if self._tls else 'http'}://{f'[{shown}]' if ':' in shown else shown}:{self._port}"

    def _start(self, table: Sequence[Route]) -> None:
        binary = self._find_binary()
        port = self._port or free_port(self._settings.host)
        self._supervisor.await_port(self._settings.host, port)
        self._replace_config(render(self._listener(port), table), validate=True)
        hard_limit = max(_LOG_HARD_LEAST_BYTES, _LOG_HARD_FACTOR * self._settings.log_limit_bytes)
        running = self._supervisor.start(binary, self._settings.host, port, hard_limit)
        self._port = port
        self._verify(table, running)

    def _apply(self, table: Sequence[Route], running: Running) -> None:
        listener = self._listener(self._port)
        text = render(listener, table)
        if self._verified == _Verified(running.worker, text):
            return
        shape = shape_of(listener, table)
        if running.description.shape != shape:
            running = self._reload(text, shape, running)
        else:
            self._replace_config(text, validate=False)
            servers = self._master.servers(running.worker)
            try:
                self._obey(running, plan.steps(table, servers, self._limits(running)))
            except GatewayFailed:
                # The file holds the same table, so a reload reaches the same end.
                running = self._reload(text, shape, running)
        self._verify(table, running, text)

    def _reload(self, text: str, shape: str, running: Running) -> Running:
        if self._port != running.description.port:
            check_port(self._settings.host, self._port)
        self._replace_config(text, validate=True)
        # What the worker counted so far is taken along before it retires.
        self._counters.read(self._master, running)
        return self._supervisor.reload(running, shape)

    def _verify(self, table: Sequence[Route], running: Running, text: str = "") -> None:
        servers = self._master.servers(running.worker)
        if problem := plan.mismatch(table, servers):
            self._verified = None
            raise GatewayFailed(f"HAProxy does not serve the route table: {problem}. See {self._log}.")
        left = self._delete_idle(running, plan.departed(table, servers))
        self._verified = _Verified(running.worker, text) if text and not left else None

    def _obey(self, running: Running, steps: Sequence[plan.Step]) -> None:
        for step in steps:
            answer = self._master.ask_worker(running.worker, step.command)
            if not step.obeyed(answer):
                raise GatewayFailed(f"HAProxy refused `{step.command}`: {answer}")

    def _delete_idle(self, running: Running, drained: Sequence[ServerState]) -> int:
        """Deletes what can be deleted now; the number of those that still have something under way."""
        if not drained:
            return 0
        busy = {
            (row["pxname"], row["svname"])
            for row in self._master.statistics(running.worker, "-1 4 -1")
            if int(row["scur"] or 0) + int(row["qcur"] or 0)
        }
        left = 0
        for server in drained:
            where = f"{backend_of(server.service)}/{server.name}"
            if (backend_of(server.service), server.name) in busy:
                left += 1
                continue
            if not server.disabled:
                self._master.ask_worker(running.worker, f"set server {where} state maint")
            # Refused while an idle connection is still open; those are closed within seconds.
            answer = self._master.ask_worker(running.worker, f"del server {where}")
            left += "Server deleted" not in answer
        return left

    def _limits(self, running: Running) -> dict[tuple[str, str], int]:
        limits = {}
        for row in self._master.statistics(running.worker, "-1 4 -1"):
            service = service_of(row["pxname"])
            if service is not None and row["slim"]:
                limits[service, row["svname"]] = int(row["slim"])
        return limits

    def _listener(self, port: int) -> Listener:
        pem, digest = None, ""
        if self._tls is not None:
            pem = self._home.gateway / "tls.pem"
            content = self._tls.combined()
            digest = hashlib.sha256(content).hexdigest()
            if not pem.exists() or pem.read_bytes() != content:
                write_private(pem, content)
        return Listener(
            host=self._settings.host,
            port=port,
            relay=self._home.run / "relay",
            home_id=self._home_id,
            threads=thread_count(),
            max_connections=connection_limit(),
            pem=pem,
            pem_digest=digest,
        )

    def _replace_config(self, text: str, validate: bool) -> None:
        content = text.encode()
        if self._config.exists() and self._config.read_bytes() == content:
            return
        candidate = self._config.with_suffix(".new")
        write_private(candidate, content)
        if validate:
            self._validate(candidate)
        candidate.replace(self._config)

    def _validate(self, candidate: Path) -> None:
        command = [str(self._find_binary().path), "-c", "-f", str(candidate)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if result.returncode != 0:
            reason = " ".join(line for line in result.stderr.splitlines() if "ALERT" in line) or result.stderr.strip()
            raise GatewayFailed(f"HAProxy does not accept its new file {candidate}: {reason}")

    def _find_binary(self) -> Binary:
        if self._binary is None or not self._binary.path.exists():
            self._binary = find_binary(self._settings.haproxy)
        return self._binary


def _executable(pid: int) -> str | None:
    try:
        return str(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        return None

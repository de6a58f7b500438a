"""Talks to a running HAProxy over its master socket: one connection per command, answers parsed into records.

The master passes `@!PID command` on to a worker, the retired ones of earlier reloads included.
"""

import csv
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from argosy.errors import GatewayFailed
from argosy.gateway.config import Description, service_of
from argosy.gateway.routes import HOLD

# A worker that is ending can leave a command without any answer, so one is repeated before HAProxy counts as stuck.
_TRY_S = 2.0
_COMMAND_S = 10.0
_RELOAD_S = 15.0
# Flags of srv_admin_state in `show servers state`: maintenance by command, drain by command.
_MAINTENANCE, _DRAIN = 0x01, 0x08


@dataclass(frozen=True)
class Processes:
    """`workers` are those that take connections (one, or none while loading), `retired` those that finish theirs,
    the latest first."""

    master: int
    workers: tuple[int, ...]
    retired: tuple[int, ...]


@dataclass(frozen=True)
class WorkerInfo:
    pid: int
    version: str
    uptime_s: int
    description: Description | None


@dataclass(frozen=True)
class ServerState:
    """A server as a worker has it. `draining` takes no new requests; `disabled` is ready to be deleted when idle."""

    service: str
    name: str
    draining: bool
    disabled: bool
    up: bool


class Master:
    """The command socket of one HAProxy. Every method raises GatewayFailed when it does not answer."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def answers(self) -> bool:
        try:
            with self._connect(_TRY_S) as connection:
                _exchange(connection, "show version")
        except OSError:
            return False
        return True

    def ask(self, command: str) -> str:
        """The answer to one command. It may be sent again: a reload closes the socket for a moment."""
        deadline = time.monotonic() + _COMMAND_S
        while True:
            try:
                with self._connect(_TRY_S) as connection:
                    return _exchange(connection, command)
            except OSError as problem:
                refused_for_long = (
                    not isinstance(problem, TimeoutError) and time.monotonic() > deadline - _COMMAND_S + 2
                )
                if refused_for_long or time.monotonic() > deadline:
                    raise GatewayFailed(f"HAProxy does not answer at {self.path}: {problem}.") from problem
                time.sleep(0.02)

    def ask_worker(self, pid: int, command: str) -> str:
        return self.ask(f"@!{pid} {command}")

    def reload(self) -> str:
        """Asks for a reload, once. 2.8 answers when it is done, 2.6 at once with nothing; a lost answer is "" too."""
        with self._connect(_RELOAD_S) as connection:
            try:
                return _exchange(connection, "reload")
            except OSError:
                return ""

    def _connect(self, timeout_s: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(timeout_s)
            connection.connect(str(self.path))
        except OSError:
            connection.close()
            raise
        return connection

    def processes(self) -> Processes:
        return parse_processes(self.ask("show proc"))

    def info(self, pid: int) -> WorkerInfo:
        return parse_info(self.ask_worker(pid, "show info"))

    def servers(self, pid: int) -> list[ServerState]:
        return parse_servers(self.ask_worker(pid, "show servers state"))

    def statistics(self, pid: int, scope: str) -> list[dict[str, str]]:
        """Rows of `show stat`; `scope` is `-1 2 -1` for all backends, `-1 4 -1` for all servers."""
        return parse_statistics(self.ask_worker(pid, f"show stat {scope}"))

    def retired_statistics(self, pid: int, scope: str) -> list[dict[str, str]]:
        """The same of a retired worker; no rows when it has ended meanwhile."""
        for _ in range(3):
            try:
                with self._connect(1.0) as connection:
                    return parse_statistics(_exchange(connection, f"@!{pid} show stat {scope}"))
            except OSError:
                if pid not in self.processes().retired:
                    return []
        raise GatewayFailed(f"HAProxy's retired worker {pid} does not answer at {self.path}.")


def _exchange(connection: socket.socket, command: str) -> str:
    connection.sendall(command.encode() + b"\n")
    connection.shutdown(socket.SHUT_WR)
    answer = bytearray()
    while chunk := connection.recv(65536):
        answer += chunk
    return answer.decode(errors="replace").strip()


def parse_processes(text: str) -> Processes:
    master, section = 0, ""
    workers: list[int] = []
    retired: list[tuple[int, int]] = []
    for line in text.splitlines():
        if line.startswith("# "):
            section = line[2:].strip()
        elif line[:1].isdigit():
            pid, kind, reloads = line.split()[:3]
            if kind == "master":
                master = int(pid)
            elif kind == "worker" and section == "old workers":
                retired.append((int(reloads), int(pid)))
            elif kind == "worker":
                workers.append(int(pid))
    if not master:
        raise GatewayFailed(f"HAProxy's master told no processes: {text[:200]!r}.")
    return Processes(master, tuple(workers), tuple(pid for _, pid in sorted(retired)))


def parse_info(text: str) -> WorkerInfo:
    fields = _fields(text)
    try:
        pid, uptime_s = int(fields["Pid"]), int(fields["Uptime_sec"])
    except (KeyError, ValueError):
        raise GatewayFailed(f"HAProxy's worker did not tell its state: {text[:200]!r}.") from None
    return WorkerInfo(pid, fields.get("Version", ""), uptime_s, Description.parse(fields.get("description", "")))


def _fields(text: str) -> Mapping[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def parse_servers(text: str) -> list[ServerState]:
    """Servers of services, without the one that holds requests, which no command adds or drains. Line one is a format
    version, line two the column names after `# `."""
    lines = text.splitlines()
    if len(lines) < 2 or not lines[1].startswith("# "):
        raise GatewayFailed(f"HAProxy did not tell its servers: {text[:200]!r}.")
    columns = lines[1][2:].split()
    servers = []
    for line in lines[2:]:
        row = dict(zip(columns, line.split(), strict=False))
        service = service_of(row.get("be_name", ""))
        if service is not None and row["srv_name"] != HOLD:
            admin = int(row["srv_admin_state"])
            disabled = bool(admin & _MAINTENANCE)
            up = row["srv_op_state"] != "0"
            servers.append(ServerState(service, row["srv_name"], bool(admin & _DRAIN) or disabled, disabled, up))
    return servers


def parse_statistics(text: str) -> list[dict[str, str]]:
    if not text.startswith("# "):
        return []
    return list(csv.DictReader(text[2:].splitlines()))

"""HAProxy's counters per service, kept rising over reloads."""

import threading
from collections.abc import Mapping

from argosy.errors import GatewayFailed
from argosy.gateway.config import service_of
from argosy.gateway.master import Master
from argosy.gateway.supervisor import Running

# Our name -> column of `show stat`. A new worker counts from zero; the gauges are those of this moment.
_TOTALS = {
    "requests": "req_tot",
    "responses_1xx": "hrsp_1xx",
    "responses_2xx": "hrsp_2xx",
    "responses_3xx": "hrsp_3xx",
    "responses_4xx": "hrsp_4xx",
    "responses_5xx": "hrsp_5xx",
    "bytes_in": "bin",
    "bytes_out": "bout",
    "retries": "wretr",
    "connect_errors": "econ",
}
_GAUGES = {"sessions": "scur", "queued": "qcur", "ready_servers": "act"}

PerService = dict[str, dict[str, int]]


class Counters:
    """Remembers each worker's last counts, so that those of workers that ended are not lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended: PerService = {}
        self._last: dict[int, PerService] = {}

    def read(self, master: Master, running: Running) -> PerService:
        """Totals and gauges of the services that there are now."""
        with self._lock:
            rows = {running.worker: counts(master.statistics(running.worker, "-1 2 -1"))}
            for pid in running.retired:
                try:
                    if found := master.retired_statistics(pid, "-1 2 -1"):
                        rows[pid] = counts(found)
                except GatewayFailed:
                    rows[pid] = self._last.get(pid, {})
            for pid in self._last.keys() - rows.keys():
                _add(self._ended, self._last.pop(pid), _TOTALS)
            self._last.update(rows)
            current = rows[running.worker]
            result = {service: dict(values) for service, values in current.items()}
            for pid, values in rows.items():
                if pid != running.worker:
                    _add(result, {s: v for s, v in values.items() if s in current}, {**_TOTALS, "sessions": ""})
            _add(result, {s: v for s, v in self._ended.items() if s in current}, _TOTALS)
            return result


def counts(rows: list[dict[str, str]]) -> PerService:
    columns = {**_TOTALS, **_GAUGES}
    return {
        service: {name: int(row[column] or 0) for name, column in columns.items()}
        for row in rows
        if (service := service_of(row["pxname"])) is not None
    }


def _add(into: PerService, values: Mapping[str, Mapping[str, int]], names: Mapping[str, str]) -> None:
    for service, counted in values.items():
        target = into.setdefault(service, {})
        for name in names:
            target[name] = target.get(name, 0) + counted.get(name, 0)

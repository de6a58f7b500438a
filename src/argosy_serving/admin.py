"""The admin socket: what the control plane asks of this replica. Only its owner can connect (0600)."""

import asyncio
import functools
import logging
import os
from collections.abc import Callable
from typing import Any

import orjson

from argosy_serving.admission import Admission
from argosy_serving.messages import JSON_TYPE, Answer, Request
from argosy_serving.metrics import Metrics
from argosy_serving.refusals import BadInput, Defect, NoSuchPath, Refusal
from argosy_serving.settings import SettingsFile
from argosy_serving.spec import Spec
from argosy_serving.state import State

logger = logging.getLogger("argosy")

_BODY_LIMIT_BYTES = 10_000
_BODY_LIMIT_S = 5.0


class Admin:
    """`drain(grace_s)` begins to drain; `applied()` makes settings that were just read take effect."""

    def __init__(
        self,
        spec: Spec,
        state: State,
        admission: Admission,
        metrics: Metrics,
        settings: SettingsFile,
        drain: Callable[[float], None],
        applied: Callable[[], None],
    ) -> None:
        self._spec, self._state, self._admission, self._settings = spec, state, admission, settings
        self._metrics, self._drain, self._applied = metrics, drain, applied

    def handle(self, request: Request) -> None:
        request.read(
            _BODY_LIMIT_BYTES,
            _BODY_LIMIT_S,
            functools.partial(self._serve, request),
            lambda refusal: request.respond(_refused(refusal)),
        )

    def _serve(self, request: Request) -> None:
        call = (request.method, request.path)
        try:
            if call == ("GET", "/status"):
                request.respond(_json(200, self._status()))
            elif call == ("POST", "/reload"):
                # Storage may be slow, and the loop must not wait for it.
                reading = asyncio.ensure_future(asyncio.to_thread(self._settings.reload))
                reading.add_done_callback(lambda _: self._reloaded(request))
            elif call == ("POST", "/drain"):
                self._drain(self._grace_s(request.body))
                request.respond(_json(200, {"state": self._state.phase}))
            else:
                raise NoSuchPath(request.path)
        except Refusal as refusal:
            request.respond(_refused(refusal))
        except Exception:
            logger.exception("Answering %s failed", request.path)
            request.respond(_refused(Defect()))

    def _reloaded(self, request: Request) -> None:
        self._applied()
        request.respond(_json(200, {"generation": self._settings.current.generation}))

    def _grace_s(self, body: bytes) -> float:
        try:
            given = orjson.loads(body) if body else {}
            grace_s = given.get("grace_s", self._spec.drain_grace_s)
            if isinstance(grace_s, (int, float)) and not isinstance(grace_s, bool) and 0 <= grace_s <= 3600:
                return float(grace_s)
        except (orjson.JSONDecodeError, AttributeError):
            pass
        raise BadInput('The body must be JSON such as {"grace_s": 0}, with at most 3600.')

    def _status(self) -> "dict[str, Any]":
        return {
            "id": self._spec.id,
            "service": self._spec.service,
            "revision": self._spec.revision,
            "spec_sha256": self._spec.sha256,
            "generation": self._settings.current.generation,
            "state": self._state.phase,
            "reason": self._state.reason,
            "in_flight": self._admission.in_flight,
            "queued": self._admission.queued,
            "capacity": self._admission.capacity,
            "stuck": self._admission.stuck,
            "shed": self._metrics.turned_away,
            "run_s": round(self._admission.mean_run_s, 6),
            "pid": os.getpid(),
            "started_at": self._state.started_at,
        }


def _json(status: int, value: Any) -> Answer:
    return Answer(status, JSON_TYPE, orjson.dumps(value))


def _refused(refusal: Refusal) -> Answer:
    return Answer(refusal.status, JSON_TYPE, refusal.body())

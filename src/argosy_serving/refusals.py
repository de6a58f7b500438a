"""Every answer of a replica that is not a score: one class each, with status, code and the sentence.

Refusal                      status, code, message, details, headers
├── NotHttp             400  what came is no HTTP
├── BadInput            400  the body does not fit the schema
├── Unauthorized        401  no or wrong key
├── NoSuchPath          404
├── WrongMethod         405
├── NotAcceptable       406  the answer has no form that the caller accepts
├── BodyTimeout         408  the body came too slowly
├── TooLarge            413
├── WrongType           415
├── HeadTooLarge        431
├── Defect              500  the server's own fault
├── ScoringFailed       500  `run` raised
├── Shed                429  never started: queue_full, queue_wait, deadline
│   └── Unavailable     503  never started: loading, draining
├── ScoringTimeout      504
└── StreamTimeout       504  in the last record of a stream

Behind the gateway a Shed leaves as 425 with `x-argosy-shed`, which HAProxy sends to another replica once and then
turns into the status that `x-argosy-overload` names.
"""

import math
from collections.abc import Mapping
from typing import Any

import orjson

from argosy_serving.schema.problems import InvalidInput


class Refusal(Exception):
    """An answer in the one JSON shape of errors."""

    status = 500
    code = "error"

    def __init__(
        self, message: str, details: "Mapping[str, Any] | None" = None, headers: "Mapping[str, str] | None" = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = dict(details or {})
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        return orjson.dumps({"error": {"code": self.code, "message": self.message, "details": self.details}})

    def text_body(self) -> bytes:
        """As the Open Inference Protocol has errors."""
        return orjson.dumps({"error": self.message, "code": self.code, "details": self.details})


class NotHttp(Refusal):
    status, code = 400, "bad_request"

    def __init__(self) -> None:
        super().__init__("This is no request that HTTP/1.1 allows.")


class HeadTooLarge(Refusal):
    status, code = 431, "head_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"The request line and headers are larger than {limit_bytes} bytes.", {"limit_bytes": limit_bytes}
        )


class BadInput(Refusal):
    status, code = 400, "invalid_input"

    @classmethod
    def of(cls, problem: InvalidInput) -> "BadInput":
        details = {"pointer": problem.pointer, "expected": problem.expected, "received": problem.received}
        return cls(str(problem), details)


class Unauthorized(Refusal):
    status, code = 401, "unauthorized"

    def __init__(self, service: str, browser: bool) -> None:
        scheme = "Basic" if browser else "Bearer"
        super().__init__(
            "The key is missing or wrong. Send `Authorization: Bearer <key>` with the primary or the secondary key.",
            headers={"www-authenticate": f'{scheme} realm="{service}"'},
        )


class NoSuchPath(Refusal):
    status, code = 404, "not_found"

    def __init__(self, path: str) -> None:
        super().__init__(f"There is nothing at {path[:200]!r}.", {"path": path[:200]})


class WrongMethod(Refusal):
    status, code = 405, "method_not_allowed"

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method} is not possible here; use {allowed}.", headers={"allow": allowed})


class BodyTimeout(Refusal):
    status, code = 408, "body_timeout"

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"The body did not arrive within {limit_s:g} seconds.")


class NotAcceptable(Refusal):
    status, code = 406, "not_acceptable"

    def __init__(self, wanted: str, why: str) -> None:
        super().__init__(
            f"The answer cannot be given as {wanted}: {why}. Accept application/json as well.", {"wanted": wanted}
        )


class TooLarge(Refusal):
    status, code = 413, "too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The body is larger than {limit_bytes} bytes.", {"limit_bytes": limit_bytes})


class WrongType(Refusal):
    status, code = 415, "unsupported_media_type"

    def __init__(self, received: str, instead: str) -> None:
        super().__init__(f"A body of {received[:100]!r} cannot be read here. {instead}", {"received": received[:100]})


class Defect(Refusal):
    code = "server_failed"

    def __init__(self) -> None:
        super().__init__("The server failed. Its log says why.")


class ScoringFailed(Refusal):
    status, code = 500, "scoring_failed"

    def __init__(self, request_id: str, why: str = "The scoring script raised an error.") -> None:
        super().__init__(f"{why} The log has the details under request id {request_id}.", {"request_id": request_id})


class Shed(Refusal):
    """Work that was refused before it started, so that sending it elsewhere is safe."""

    status = 429

    def __init__(self, reason: str, message: str, retry_after_s: float) -> None:
        super().__init__(
            message, {"reason": reason}, {"retry-after": str(max(1, math.ceil(min(retry_after_s, 3600.0))))}
        )
        self.code = reason

    def outer_status(self, overload_status: int) -> int:
        """What the caller sees in the end."""
        return overload_status


class Unavailable(Shed):
    status = 503

    def outer_status(self, overload_status: int) -> int:
        return 503


class ScoringTimeout(Refusal):
    status, code = 504, "timeout"

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"Scoring took longer than {limit_s:g} seconds.", {"timeout_s": limit_s})


class StreamTimeout(Refusal):
    """The last record of a stream that took too long; its status was sent long before."""

    status, code = 504, "timeout"

    def __init__(self) -> None:
        super().__init__("The stream took longer than the service's timeout, or the caller's, and ends here.")

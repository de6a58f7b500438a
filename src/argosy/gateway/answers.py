"""What the gateway itself answers, in the error shape of the data plane.

HTTP that cannot be parsed at all (and a header that never ends) gets HAProxy's own short 400 or 408 page: its HTTP/1
decoder answers those before any rule or error page of ours can. Everything with a request line gets JSON.
"""

import json

_JSON = "content-type application/json"
# Set by the frontend's first rules.
_ID = "hdr x-request-id %[var(txn.id)]"
RETRY_AFTER_S = 1

_FAILURES = {
    400: ("bad_request", "The request is not valid HTTP."),
    408: ("request_timeout", "The request did not arrive in time."),
    413: ("too_large", "The request is too large."),
    500: ("gateway_failed", "The gateway could not handle the request."),
    502: ("replica_failed", "The replica ended without a complete answer. Whether the request ran is unknown."),
    503: ("no_ready_replica", "No replica of this service is ready. Try again soon."),
    504: ("timeout", "The service did not answer in time."),
}


def failure_lines() -> list[str]:
    """`http-error` lines: HAProxy's own failures as JSON."""
    lines = []
    for status, (code, message) in _FAILURES.items():
        # 400 and 408 come before the rules that name the request.
        extra = "" if status in (400, 408) else f" {_ID}"
        extra += f" hdr retry-after {RETRY_AFTER_S}" if status == 503 else ""
        lines.append(f"http-error status {status} {_JSON} string {_quoted(_body(code, message))}{extra}")
    return lines


def not_found(condition: str) -> str:
    """A path that belongs to no service, or that only the machine may call."""
    message = "There is nothing at this path. Services are at /api/v1/service/NAME/."
    return f"http-request return status 404 {_JSON} string {_quoted(_body('not_found', message))} {_ID} {condition}"


def shed(status: int, condition: str) -> str:
    """As a replica refuses (argosy_serving/refusals.py), when so much is under way that all of them would."""
    body = _body("queue_full", "More requests are under way than the replicas could take.", {"reason": "queue_full"})
    headers = f"{_ID} hdr retry-after {RETRY_AFTER_S}"
    return f"http-request return status {status} {_JSON} string {_quoted(body)} {headers} {condition}"


def service_not_found() -> list[str]:
    """The name is repeated only when it could be a service's: nothing else a client sends is echoed."""
    named = _body("service_not_found", "There is no service NAME here.", {"noun": "service", "name": "NAME"})
    named = named.replace("NAME", "%[var(txn.service)]")
    plain = _body("service_not_found", "There is no such service here.")
    safe = "{ var(txn.service) -m reg ^[a-z0-9][a-z0-9.-]{0,62}$ }"
    return [
        f"http-request return status 404 {_JSON} lf-string {_quoted(named)} {_ID} if {safe}",
        f"http-request return status 404 {_JSON} string {_quoted(plain)} {_ID}",
    ]


def _body(code: str, message: str, details: dict[str, str] | None = None) -> str:
    return json.dumps({"error": {"code": code, "message": message, "details": details or {}}})


def _quoted(text: str) -> str:
    """Strongly quoted for HAProxy's file; our texts hold no single quote."""
    return f"'{text}'"

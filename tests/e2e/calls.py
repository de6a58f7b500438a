"""One HTTP request, as any caller of a service would send it."""

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Proxies of the environment are for other machines.
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Reply:
    """`headers` has lower-case names."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def error(self) -> Any:
        """The `error` object, which must have the one shape that all errors have."""
        error = self.json["error"]
        assert set(error) == {"code", "message", "details"}
        return error


def call(
    url: str,
    body: Any = None,
    *,
    method: str | None = None,
    token: str | None = None,
    headers: dict[str, str] | None = None,
    ca_file: Path | str | None = None,
) -> Reply:
    """POST `body` (bytes as they are, else as JSON), or GET when there is none; `method` says otherwise."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    all_headers = {"content-type": "application/json"} if data is not None else {}
    all_headers |= {"authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, data, all_headers | (headers or {}), method=method)
    context = ssl.create_default_context(cafile=ca_file) if url.startswith("https") else None
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), *([urllib.request.HTTPSHandler(context=context)] if context else [])
    )
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            return Reply(answer.status, _lower(answer.headers), answer.read())
    except urllib.error.HTTPError as refused:
        with refused:
            return Reply(refused.code, _lower(refused.headers), refused.read())


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}

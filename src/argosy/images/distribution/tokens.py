"""Authorization at a registry: what it asks for in WWW-Authenticate, and the tokens we got, kept until they expire."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import httpx

from argosy.errors import RegistryFailed
from argosy.images.distribution.logins import Login
from argosy.images.distribution.refusals import refusal

# What the token specification says when the server does not.
_LIFE_S = 60.0
# A token that ends while the request is on its way helps nobody; a short-lived one is used for half of its life.
_MARGIN_S = 5.0
_CLIENT_ID = "argosy"
_PIECE = re.compile(
    r"\s*,?\s*(?:(?P<key>[\w!#$%&'*+.^`|~-]+)\s*=\s*(?:\"(?P<quoted>(?:\\.|[^\"\\])*)\"|(?P<bare>[^\s,\"]+))"
    r"|(?P<scheme>[\w!#$%&'*+.^`|~-]+))"
)


@dataclass(frozen=True)
class Challenge:
    """`scheme` and the names of `parameters` are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def challenges(values: Iterable[str]) -> list[Challenge]:
    """Of WWW-Authenticate headers, each of which may hold several."""
    found: list[tuple[str, dict[str, str]]] = []
    for value in values:
        for piece in _PIECE.finditer(value):
            if piece["scheme"]:
                found.append((piece["scheme"].lower(), {}))
            elif found:
                text = re.sub(r"\\(.)", r"\1", piece["quoted"]) if piece["quoted"] is not None else piece["bare"]
                found[-1][1][piece["key"].lower()] = text
    return [Challenge(scheme, parameters) for scheme, parameters in found]


class Authorizer:
    """For one registry. `send` carries out requests to the token server, repeated as needed; the answer is read."""

    def __init__(
        self,
        host: str,
        login: Login,
        plain_http: bool,
        send: Callable[[Callable[[], httpx.Request]], httpx.Response],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host, self._login, self._plain_http = host, login, plain_http
        self._send, self._now = send, now
        self._basic = False
        self._tokens: dict[frozenset[str], tuple[str, float]] = {}
        self._lock = threading.Lock()

    def header(self, scopes: Iterable[str]) -> str | None:
        """The Authorization that is known to be wanted; None until the registry has asked for one."""
        if self._basic:
            return self._login.basic
        with self._lock:
            token, ends = self._tokens.get(frozenset(scopes), ("", 0.0))
        return f"Bearer {token}" if token and self._now() < ends else None

    def answer(self, response: httpx.Response, scopes: Iterable[str], what: str) -> None:
        """Get what a 401 asks for, so that `header` has it. Raises what the refusal comes to when we cannot."""
        asked = {challenge.scheme: challenge for challenge in challenges(response.headers.get_list("www-authenticate"))}
        wanted = frozenset(scopes)
        sent = response.request.headers.get("authorization")
        if ("bearer" in asked and sent is None) or (sent and sent.startswith("Bearer ") and "bearer" in asked):
            with self._lock:
                known, _ = self._tokens.get(wanted, ("", 0.0))
            # Another thread may have got a new one meanwhile.
            if not known or sent is None or sent == f"Bearer {known}":
                token, life_s = self._fetch(asked["bearer"].parameters, wanted, what)
                with self._lock:
                    self._tokens[wanted] = token, self._now() + life_s - min(_MARGIN_S, life_s / 2)
        elif "basic" in asked and self._login.username and sent is None:
            self._basic = True
        else:
            raise refusal(self._host, self._login.username, what, response)

    def _fetch(self, asked: Mapping[str, str], scopes: frozenset[str], what: str) -> tuple[str, float]:
        realm = asked.get("realm", "")
        try:
            scheme = httpx.URL(realm).scheme
        except httpx.InvalidURL:
            scheme = ""
        if scheme not in (("https", "http") if self._plain_http else ("https",)):
            raise RegistryFailed(
                self._host,
                f"The registry {self._host} wants tokens from {realm!r}, which is no https address: a password is not "
                "sent there. Its owner must set the realm of its token server.",
            )
        # The registry knows what it wants for this request, we know what we will want next.
        every = sorted(scopes | set(asked.get("scope", "").split()))
        response = self._send(lambda: self._request(realm, asked.get("service", ""), every))
        if response.status_code != 200:
            raise refusal(self._host, self._login.username, what, response)
        return self._read(response)

    def _request(self, realm: str, service: str, scopes: list[str]) -> httpx.Request:
        names = {"service": service} if service else {}
        if self._login.identity_token:
            form = {"grant_type": "refresh_token", "client_id": _CLIENT_ID, **names, "scope": " ".join(scopes)}
            return httpx.Request("POST", realm, data=form | {"refresh_token": self._login.identity_token})
        headers = {"authorization": self._login.basic} if self._login.username else {}
        url = httpx.URL(realm)
        for name, value in [*names.items(), *(("scope", scope) for scope in scopes)]:
            url = url.copy_add_param(name, value)
        return httpx.Request("GET", url, headers=headers)

    def _read(self, response: httpx.Response) -> tuple[str, float]:
        try:
            found = response.json()
            token = str(found.get("token") or found["access_token"])
            life_s = float(found.get("expires_in") or _LIFE_S)
        except (ValueError, LookupError, TypeError, AttributeError):
            raise RegistryFailed(
                self._host, f"The token server of {self._host} ({response.url.host}) answered with what is no token."
            ) from None
        return token, life_s

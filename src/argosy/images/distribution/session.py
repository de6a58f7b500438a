"""Requests to one registry: TLS, authorization, redirects and retries, below what is pushed and pulled."""

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urljoin

import httpx

from argosy.errors import InvalidOption, RegistryFailed
from argosy.images.distribution.documents import LARGEST_BYTES
from argosy.images.distribution.logins import Login
from argosy.images.distribution.names import DOCKER_HUB, is_loopback
from argosy.images.distribution.patience import PASSING, Patience
from argosy.images.distribution.refusals import refusal
from argosy.images.distribution.tokens import Authorizer

_DOCKER_HUB_API = "registry-1.docker.io"
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
# A 401 may come twice: for a token that ended on the way, and for one that lacked a scope.
_MOST_CHALLENGES = 2
_TIMEOUT = httpx.Timeout(connect=15.0, read=120.0, write=120.0, pool=120.0)
_SLOW = httpx.Timeout(connect=15.0, read=900.0, write=120.0, pool=120.0)


@dataclass(frozen=True)
class Ask:
    """One request. `target` is a path below the registry or a URL that it gave us; `content` is made anew for each
    attempt; `what` completes "the registry does not let us ..."; `slow` answers come when a whole blob was hashed."""

    method: str
    target: str
    what: str
    scopes: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | Callable[[], Iterator[bytes]] | None = None
    slow: bool = False


class RegistrySession:
    """Threads may share one. Close it, or use it in `with`.

    TLS is always verified. Plain HTTP is spoken when `plain_http` was agreed, and with a registry on this machine
    that speaks nothing else.
    """

    def __init__(
        self, host: str, login: Login, plain_http: bool, tls: ssl.SSLContext, patience: Patience | None = None
    ) -> None:
        self.host = host
        self.user = login.username
        self.patience = patience or Patience()
        self._plain_http = plain_http
        self._near = is_loopback(host)
        self._base = ""
        self._starting = threading.Lock()
        # A proxy cannot reach what listens on our loopback address.
        self._client = httpx.Client(verify=tls, timeout=_TIMEOUT, trust_env=not self._near, headers={"accept": "*/*"})
        self._authorizer = Authorizer(host, login, plain_http or self._near, self._send_to_realm)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def send(self, ask: Ask, accepted: tuple[int, ...]) -> httpx.Response:
        """The answer, read whole, when its status is one of `accepted`; repeated for what may pass, else an error."""
        return self._check(ask, self._repeat(lambda: self._read(self._open(ask), ask.what), ask.what), accepted)

    def send_once(self, ask: Ask) -> httpx.Response:
        """The answer, read whole, whatever its status. Raises httpx.RequestError."""
        return self._read(self._open(ask), ask.what)

    @contextmanager
    def stream(self, ask: Ask, accepted: tuple[int, ...]) -> Iterator[httpx.Response]:
        """As `send`, with the body still to be read, which may raise httpx.RequestError."""
        response = self._repeat(lambda: self._open(ask), ask.what)
        try:
            if response.status_code not in accepted:
                response = self._read(response, ask.what)
            yield self._check(ask, response, accepted)
        finally:
            response.close()

    def lost(self, what: str, problem: httpx.RequestError) -> RegistryFailed:
        """A broken connection as an error for users."""
        cause = problem.__cause__ or problem
        while cause.__cause__ or cause.__context__:
            cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
        if isinstance(cause, ssl.SSLCertVerificationError):
            return RegistryFailed(
                self.host,
                f"The certificate of the registry {self.host} is not trusted: {cause.verify_message}. Set "
                "ARGOSY_REGISTRY_CA_FILE to the certificate of its authority and start the control plane again.",
            )
        advice = "Try again; what has arrived is not sent again."
        if isinstance(cause, ssl.SSLError):
            advice = f"If it speaks plain HTTP: `argosy image login {self.host} --plain-http`."
        return RegistryFailed(
            self.host,
            f"The registry {self.host} could not be asked to {what}: {str(cause) or type(cause).__name__}. {advice}",
        )

    def _check(self, ask: Ask, response: httpx.Response, accepted: tuple[int, ...]) -> httpx.Response:
        if response.status_code in accepted:
            return response
        raise refusal(self.host, self.user, ask.what, response)

    def _repeat(self, attempt: Callable[[], httpx.Response], what: str) -> httpx.Response:
        for number in range(1, self.patience.attempts + 1):
            last = number == self.patience.attempts
            try:
                response = attempt()
            except httpx.RequestError as problem:
                if last or not _may_pass(problem):
                    raise self.lost(what, problem) from problem
                self.patience.pause(self.host, number)
                continue
            if last or response.status_code not in PASSING:
                break
            response.close()
            self.patience.pause(self.host, number, response)
        return response

    def _read(self, response: httpx.Response, what: str) -> httpx.Response:
        """The answer with its body in memory, which is no place for more than a manifest may have."""
        content = bytearray()
        try:
            for block in response.iter_bytes():
                content += block
                if len(content) > LARGEST_BYTES:
                    raise RegistryFailed(
                        self.host,
                        f"The registry {self.host}, asked to {what}, sent an answer larger than {LARGEST_BYTES:,} "
                        "bytes, which no manifest is. Nothing was kept.",
                    )
        finally:
            response.close()
        # What they say of the body is about the one on the wire.
        wire = ("content-encoding", "content-length", "transfer-encoding")
        headers = [(name, value) for name, value in response.headers.multi_items() if name not in wire]
        return httpx.Response(response.status_code, headers=headers, content=bytes(content), request=response.request)

    def _open(self, ask: Ask) -> httpx.Response:
        """The answer with its body unread, authorized and redirected."""
        url, challenges, redirects = self.url(ask.target), 0, 0
        while True:
            response = self._client.send(self._request(ask, url), stream=True)
            if response.status_code == 401 and challenges < _MOST_CHALLENGES and self._ours(url):
                challenges += 1
                response = self._read(response, ask.what)
                self._authorizer.answer(response, ask.scopes, ask.what)
            elif response.status_code in _REDIRECTS and ask.method in ("GET", "HEAD") and redirects < _MOST_REDIRECTS:
                redirects += 1
                response.close()
                url = self._safe(url, response.headers.get("location", ""))
            else:
                return response

    def _request(self, ask: Ask, url: str) -> httpx.Request:
        # What is pushed and pulled is counted and hashed as it is.
        headers = {"accept-encoding": "identity", "user-agent": "argosy", **ask.headers}
        # Storage that the registry sends us to has authorization of its own in the URL.
        if self._ours(url) and (authorization := self._authorizer.header(ask.scopes)):
            headers["authorization"] = authorization
        content = ask.content() if callable(ask.content) else ask.content
        timeout = _SLOW if ask.slow else _TIMEOUT
        return self._client.build_request(ask.method, url, headers=headers, content=content, timeout=timeout)

    def url(self, target: str) -> str:
        """`target` as a whole URL; a path, or what the registry gave us, which may be relative."""
        return self._safe(self._origin(), target)

    def _ours(self, url: str) -> bool:
        ours, other = httpx.URL(self._base), httpx.URL(url)
        return (ours.scheme, ours.host, ours.port) == (other.scheme, other.host, other.port)

    def _safe(self, base: str, target: str) -> str:
        """`target` as seen from `base`. RegistryFailed when it is no URL, or leads away from TLS."""
        try:
            url = urljoin(base, target)
            scheme = httpx.URL(url).scheme
        except (ValueError, httpx.InvalidURL):
            raise RegistryFailed(
                self.host, f"The registry {self.host} sends us on to {target[:200]!r}, which is no URL."
            ) from None
        if scheme != "https" and self._base.startswith("https:"):
            raise RegistryFailed(
                self.host,
                f"The registry {self.host} speaks https but sends us on to {url.partition('?')[0]}. Its proxy must "
                "pass on `X-Forwarded-Proto: https`.",
            )
        return url

    def _origin(self) -> str:
        with self._starting:
            if not self._base:
                plain = self._plain_http or (self._near and self._answers_plainly())
                api = _DOCKER_HUB_API if self.host == DOCKER_HUB else self.host
                self._base = f"{'http' if plain else 'https'}://{api}/"
        return self._base

    def _answers_plainly(self) -> bool:
        """Whether a registry on this machine speaks plain HTTP. A TLS server answers such a request with 400 or by
        hanging up; nothing secret is in it."""
        try:
            return self._client.get(f"http://{self.host}/v2/").status_code != 400
        except httpx.RequestError:
            return False

    def _send_to_realm(self, make: Callable[[], httpx.Request]) -> httpx.Response:
        def attempt() -> httpx.Response:
            request = make()
            request.extensions = {"timeout": _TIMEOUT.as_dict()}
            return self._read(self._client.send(request, stream=True), "give us a token")

        return self._repeat(attempt, "give us a token")


def trusted(ca_file: str = "") -> ssl.SSLContext:
    """The authorities of the system (or those that SSL_CERT_FILE names), and those in the PEM file `ca_file`."""
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as problem:
            raise InvalidOption(
                "registry_ca_file", ca_file, f"it cannot be read as PEM certificates: {problem}"
            ) from problem
    return context


def _may_pass(problem: httpx.RequestError) -> bool:
    """A wrong certificate and a wrong protocol stay what they are."""
    cause: BaseException | None = problem
    while cause is not None:
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return False
        cause = cause.__cause__ or cause.__context__
    return not isinstance(problem, httpx.UnsupportedProtocol)

"""Fetches a model from an http(s) URL into the blob store, as a stream and with limits."""

import http.client
import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit, urlunsplit

from argosy.errors import FetchFailed, InvalidFile, InvalidOption, TooLarge
from argosy.models.paths import check_path
from argosy.models.wire import Connection, CutOff, Pace, TooSlow, connect
from argosy.store.blobs import Blob, LocalBlobs

_BLOCK_BYTES = 256 << 10
_REDIRECTS = (301, 302, 303, 307, 308)
_URL_CHARACTERS = 4096
_SAFE = "/:@!$&'()*+,;=-._~%?"
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Policy:
    """What may be fetched. `limit_bytes` counts what arrives, not what is announced."""

    limit_bytes: int
    allow_private: bool = False
    redirects: int = 5
    pace: Pace = field(default_factory=Pace)
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)


@dataclass(frozen=True)
class Fetched:
    """`name` is safe as a file's name; `source` is the URL without what may be secret in it."""

    name: str
    blob: Blob
    source: str


def fetch(url: str, blobs: LocalBlobs, policy: Policy, progress: Progress = lambda done, total: None) -> Fetched:
    """Blocks until the file is stored. `progress(bytes so far, bytes in all or None)`; what it raises ends the fetch.

    Raises InvalidOption for a URL that cannot be used, TooLarge, and FetchFailed for all that goes wrong on the way.
    """
    first = target = checked_url(url)
    for _ in range(policy.redirects + 1):
        shown = without_secrets(target)
        connection = connect(target, shown, policy.allow_private, policy.pace, policy.tls)
        try:
            response = _ask(connection, target, shown, policy.pace)
            if response.status not in _REDIRECTS:
                blob = blobs.put(_body(response, shown, policy, progress))
                return Fetched(_file_name(response, first, target), blob, without_secrets(first))
            target = _redirected(target, response.getheader("Location"), shown)
        finally:
            connection.hang_up()
    raise FetchFailed(without_secrets(first), f"it redirects more than {policy.redirects} times. Use the final URL.")


def checked_url(url: str) -> SplitResult:
    """The parts of a URL that can be fetched; InvalidOption otherwise."""
    wanted = "write an http:// or https:// URL of a file"
    if len(url) > _URL_CHARACTERS or not url.isprintable() or " " in url:
        raise InvalidOption("url", url[:80], wanted)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as problem:
        raise InvalidOption("url", url, f"{wanted} ({problem})") from problem
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise InvalidOption("url", without_secrets(parts), wanted)
    if parts.username is not None or parts.password is not None:
        raise InvalidOption(
            "url", without_secrets(parts), "it has a user name or password. Download the file, then register it"
        )
    return parts


def without_secrets(parts: SplitResult) -> str:
    """For people and for the record: no credentials, no query (signed URLs carry their key there), no fragment."""
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _redirected(target: SplitResult, location: str | None, shown: str) -> SplitResult:
    if not location:
        raise FetchFailed(shown, "it redirects to nowhere. Use the final URL.")
    try:
        following = checked_url(urljoin(urlunsplit(target), location))
    except InvalidOption as problem:
        raise FetchFailed(shown, f"it redirects to a URL that cannot be used: {problem.message}") from problem
    if target.scheme == "https" and following.scheme == "http":
        raise FetchFailed(shown, "it redirects from https to http, where anybody could change the file.")
    return following


def _ask(connection: Connection, target: SplitResult, shown: str, pace: Pace) -> http.client.HTTPResponse:
    path = quote(target.path or "/", safe=_SAFE) + (f"?{quote(target.query, safe=_SAFE)}" if target.query else "")
    host = f"[{target.hostname}]" if ":" in str(target.hostname) else str(target.hostname)
    port = "" if target.port in (None, {"http": 80, "https": 443}[target.scheme]) else f":{target.port}"
    cut_off = CutOff(connection.connected, pace.opening_timeout_s)
    try:
        with cut_off:
            connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", host.encode("idna").decode() + port)
            connection.putheader("Accept", "*/*")
            connection.putheader("Accept-Encoding", "identity")
            connection.putheader("User-Agent", "argosy")
            connection.putheader("Connection", "close")
            connection.endheaders()
            response = connection.getresponse()
    except (OSError, http.client.HTTPException, TooSlow, UnicodeError) as problem:
        why = _words(TooSlow() if cut_off.fired else problem)
        raise FetchFailed(shown, f"{why} Try again later.") from problem
    if response.status not in (200, *_REDIRECTS):
        raise FetchFailed(shown, f"the server answered with HTTP {response.status} {_reason(response)}. Check the URL.")
    return response


def _reason(response: http.client.HTTPResponse) -> str:
    return "".join(c for c in response.reason[:80] if c.isprintable())


def _words(problem: Exception) -> str:
    if isinstance(problem, TooSlow):
        return "the server sends next to nothing."
    if isinstance(problem, TimeoutError):
        return "the server went silent."
    return f"the connection broke ({type(problem).__name__}: {str(problem)[:200]})."


def _body(response: http.client.HTTPResponse, shown: str, policy: Policy, progress: Progress) -> Iterator[bytes]:
    """The bytes of the body; raises when they are too many or fewer than announced."""
    total_bytes = response.length
    if response.getheader("Content-Encoding", "identity").lower() not in ("", "identity"):
        raise FetchFailed(shown, "the server compresses the file though asked not to. Download it, then register it.")
    if total_bytes is not None and total_bytes > policy.limit_bytes:
        raise TooLarge(shown, policy.limit_bytes)
    done_bytes = 0
    while True:
        try:
            block = response.read(_BLOCK_BYTES)
        except (OSError, http.client.HTTPException, TooSlow) as problem:
            raise FetchFailed(shown, f"after {done_bytes:,} bytes {_words(problem)} Try again.") from problem
        if not block:
            break
        done_bytes += len(block)
        if done_bytes > policy.limit_bytes:
            raise TooLarge(shown, policy.limit_bytes)
        progress(done_bytes, total_bytes)
        yield block
    if total_bytes is not None and done_bytes != total_bytes:
        raise FetchFailed(shown, f"it ended after {done_bytes:,} of {total_bytes:,} bytes. Try again.")


def _file_name(response: http.client.HTTPResponse, first: SplitResult, last: SplitResult) -> str:
    """From Content-Disposition (RFC 6266), else from the URL asked for, else from the one it led to."""
    names = [_disposition(response.getheader("Content-Disposition")), *(_last_part(url) for url in (first, last))]
    safe = [name for name in map(_safe_name, names) if name]
    # `/latest` that leads to `/model-3.pkl` is better called by the name that tells the format.
    return next((name for name in safe if "." in name), safe[0] if safe else "model")


def _disposition(header: str | None) -> str:
    if not header:
        return ""
    message = Message()
    message["Content-Disposition"] = header
    return message.get_filename("") or ""


def _last_part(url: SplitResult) -> str:
    return unquote(url.path.rstrip("/").rpartition("/")[2], errors="replace")


def _safe_name(name: str) -> str | None:
    """The last part of a name, without what a path could not hold."""
    last = re.split(r"[/\\]", name)[-1].strip()
    cleaned = re.sub(r"[^\w.+ ()=,@-]", "_", last).lstrip(".")[-200:]
    try:
        return check_path(cleaned)
    except InvalidFile:
        return None

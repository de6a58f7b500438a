"""HTTP by chance: how bytes are cut into packets changes no answer, and no bytes at all harm the replica.

Seeded, so that what fails fails again; the seed is in the message.
"""

import json
import random
import select
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httptools
import pytest

from serving.wire import AUTH, PLAIN, connected

SESSIONS, MUTANTS = 150, 200
LANES = 4
UPGRADE = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
# Lists come back as streams.
SCRIPT = "def run(x): return (item for item in x) if isinstance(x, list) else x"


@pytest.fixture
def echo(replica: Any) -> Any:
    replica.write_image(SCRIPT, PLAIN)
    replica.write_settings(request_timeout_ms=10_000, max_queued_requests=100, max_queue_wait_ms=10_000)
    return replica.start(slots=2)


@dataclass
class Answers:
    """What a connection answered, read by httptools' parser for clients."""

    all: list[tuple[int, bytes]] = field(default_factory=list)
    closes: bool = False
    body: bytes = b""

    def __post_init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)

    def on_message_begin(self) -> None:
        self.body = b""

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.all.append((self.parser.get_status_code(), self.body))
        self.closes = not self.parser.should_keep_alive()


def valid(chance: random.Random, number: int) -> tuple[bytes, tuple[int, bytes | None]]:
    """A request and its answer; None for a body that is no matter."""
    kind = chance.choice(["number", "number", "text", "stream", "live", "nowhere", "no key", "bad"])
    if kind == "live":
        return b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", (200, b'{"status":"alive"}')
    if kind == "nowhere":
        return b"GET /no/%d HTTP/1.1\r\nHost: x\r\n\r\n" % number, (404, None)
    value: Any = number
    if kind == "text":
        value = f"{number} " + "x" * chance.randrange(30_000)
    if kind == "stream":
        value = [number] * chance.randrange(1, 20)
    body = b"{" if kind == "bad" else json.dumps({"x": value}).encode()
    answer: bytes | None = json.dumps(value).encode()
    if kind == "stream":
        answer = b"%d\n" % number * len(value)
    head = b"POST /score HTTP/1.1\r\nHost: x\r\n" + (b"" if kind == "no key" else AUTH)
    if chance.random() < 0.15:
        head += UPGRADE
    status = {"no key": 401, "bad": 400}.get(kind, 200)
    return head + framed(chance, body), (status, answer if status == 200 else None)


def framed(chance: random.Random, body: bytes) -> bytes:
    """The rest of a head and the body: by its length, or in chunks."""
    if chance.random() < 0.5:
        return b"Content-Length: %d\r\n\r\n" % len(body) + body
    framed, start = b"Transfer-Encoding: chunked\r\n\r\n", 0
    while start < len(body):
        size = chance.choice([1, 7, 300, 20_000])
        chunk = body[start : start + size]
        framed += b"%x%b\r\n%b\r\n" % (len(chunk), chance.choice([b"", b"", b";a=b"]), chunk)
        start += size
    return framed + b"0\r\n" + chance.choice([b"", b"X-After: y\r\n"]) + b"\r\n"


def pieces(chance: random.Random, raw: bytes) -> list[bytes]:
    cuts = sorted(chance.randrange(len(raw) + 1) for _ in range(chance.choice([0, 1, 5, 40])))
    return [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True) if end > start]


def converse(replica: Any, sent: list[bytes], chance: random.Random, enough: int, quiet_s: float) -> Answers:
    """Send piece by piece and read meanwhile, until `enough` answers, the end, or nothing for `quiet_s`."""
    answers = Answers()
    with connected(replica) as client:
        client.setblocking(False)
        waiting = [memoryview(piece) for piece in sent]
        last = time.monotonic()
        while len(answers.all) < enough and (waiting or time.monotonic() - last < quiet_s):
            readable, writable, _ = select.select([client], [client] if waiting else [], [], 0.02)
            try:
                if readable:
                    if not (data := client.recv(65536)):
                        break
                    answers.parser.feed_data(data)
                    last = time.monotonic()
                if writable:
                    count = client.send(waiting[0])
                    waiting[:1] = [waiting[0][count:]] if count < len(waiting[0]) else []
                    last = time.monotonic()
                    if chance.random() < 0.1:
                        time.sleep(chance.random() * 0.004)
            except (BrokenPipeError, ConnectionResetError):
                break
    return answers


def in_lanes(work: Callable[[int], None], seeds: int) -> None:
    """Several at once: answers of one connection must not come to another."""
    with ThreadPoolExecutor(LANES) as lanes:
        for done in [lanes.submit(work, seed) for seed in range(seeds)]:
            done.result()


def unharmed(replica: Any, until: Callable[..., Any]) -> None:
    until(lambda: replica.admin("GET", "/status").json["in_flight"] == 0)
    assert replica.score({"x": 1}).json == 1
    assert not [entry for entry in replica.log() if entry["level"] in ("error", "critical")]
    assert "Traceback" not in replica.log_text()


def test_valid_requests_in_any_packets(echo: Any, until: Callable[..., Any]) -> None:
    def session(seed: int) -> None:
        chance = random.Random(seed)
        asked = [valid(chance, seed * 1000 + number) for number in range(chance.randrange(1, 12))]
        wanted: list[tuple[int, bytes | None]] = []
        for _, answer in asked:
            wanted.append(answer)
        sent = pieces(chance, b"".join(request for request, _ in asked))
        found = converse(echo, sent, chance, len(wanted), 20)
        for got, (status, body) in zip(found.all, wanted, strict=False):
            assert (got[0], got[1] if body is not None else None) == (status, body), f"seed {seed}"
        # A request that is refused before its body is there ends the connection.
        early = found.closes and found.all[-1][0] in (400, 401, 404)
        assert len(found.all) == len(wanted) or early, f"seed {seed}: {len(found.all)} of {len(wanted)}"

    in_lanes(session, SESSIONS)
    unharmed(echo, until)


def mutated(chance: random.Random, raw: bytes) -> bytes:
    data = bytearray(raw)
    for _ in range(chance.choice([1, 1, 2, 5])):
        at = chance.randrange(len(data) + 1)
        until = min(len(data), at + chance.choice([1, 2, 10, 200]))
        match chance.randrange(6):
            case 0:
                data[at:until] = chance.randbytes(until - at)
            case 1:
                del data[at:until]
            case 2:
                data[at:at] = data[at:until]
            case 3:
                data[at:at] = chance.choice([b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"\r\n\r\n", b"\xff"])
            case 4:
                data[at:at] = chance.choice(
                    [b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", UPGRADE, b"Expect: 100-continue\r\n"]
                )
            case _:
                data[at:at] = b"9" * chance.randrange(1, 25)
    return bytes(data)


def test_mutated_requests(echo: Any, until: Callable[..., Any]) -> None:
    """The same bytes in one packet and in many must be understood alike, and nothing is an error of the server."""

    def session(seed: int) -> None:
        chance = random.Random(10_000 + seed)
        raw = b"".join(valid(chance, number)[0][:4000] for number in range(chance.randrange(1, 6)))
        raw = mutated(chance, raw)
        both = [converse(echo, sent, chance, 1000, 0.15).all for sent in ([raw], pieces(chance, raw))]
        for one in both:
            assert [status for status, _ in one if status >= 500] == [], f"seed {seed}"
        # A refusal need not wait for a body: it may be out before the body turns out to be none.
        length = min(next((at for at, (_, body) in enumerate(one) if b"bad_request" in body), len(one)) for one in both)
        assert both[0][:length] == both[1][:length], f"seed {seed}"

    in_lanes(session, MUTANTS)
    unharmed(echo, until)


def test_noise(echo: Any, until: Callable[..., Any]) -> None:
    chance = random.Random(7)
    for _ in range(300):
        with connected(echo) as client:
            client.sendall(chance.randbytes(chance.randrange(1, 3000)))
            if chance.random() < 0.3:
                client.shutdown(socket.SHUT_WR)
    unharmed(echo, until)

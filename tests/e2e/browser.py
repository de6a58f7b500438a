"""A real browser, driven over the pipe that its DevTools protocol offers: JSON messages that end with a NUL."""

import base64
import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

_OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1200,1400 "
    "--remote-debugging-pipe about:blank"
)
_TIMEOUT_S = 60


class Browser:
    """One process with a profile of its own. `page()` opens a tab."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._count = 0
        self._rest = b""
        self._handlers: list[Page] = []

    def __enter__(self) -> "Browser":
        self._profile = tempfile.TemporaryDirectory(prefix="argosy-browser-", ignore_cleanup_errors=True)
        self._in, theirs_out = os.pipe()
        theirs_in, self._out = os.pipe()
        # It reads descriptor 3 and writes 4.
        script = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, self._program, f"--user-data-dir={self._profile.name}", *_OPTIONS.split()],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(Exception):
            self.send("Browser.close")
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)
        self._profile.cleanup()

    def page(self, key: str | None = None) -> "Page":
        """A tab; `key` is what a person types when the browser asks for a password."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, key)
        self._handlers.append(page)
        for domain in ("Page", "Network", "Runtime", "Log"):
            page.send(f"{domain}.enable")
        if key is not None:
            page.send("Fetch.enable", handleAuthRequests=True)
        return page

    def send(self, method: str, session: str | None = None, /, **params: Any) -> Any:
        """The result of a command; what the browser tells meanwhile goes to the pages."""
        number = self.post(method, session, **params)
        for message in self._messages():
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
        raise AssertionError(f"the browser did not answer {method}")

    def post(self, method: str, session: str | None = None, /, **params: Any) -> int:
        """The same without waiting for the result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        return self._count

    def _messages(self) -> Iterator[dict[str, Any]]:
        while True:
            while b"\0" not in self._rest:
                piece = os.read(self._in, 1 << 20)
                assert piece, "the browser has ended"
                self._rest += piece
            one, _, self._rest = self._rest.partition(b"\0")
            message = json.loads(one)
            for page in self._handlers:
                if message.get("sessionId") == page.session and "method" in message:
                    page.told(message["method"], message["params"])
            yield message


@dataclass
class Page:
    """A tab. `requested` are the addresses it asked for, `complaints` what it wrote to its console as errors."""

    browser: Browser
    session: str
    key: str | None
    requested: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def send(self, method: str, **params: Any) -> Any:
        return self.browser.send(method, self.session, **params)

    def told(self, event: str, params: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])
        elif event == "Fetch.requestPaused":
            self.browser.post("Fetch.continueRequest", self.session, requestId=params["requestId"])
        elif event == "Fetch.authRequired":
            answer = {"response": "ProvideCredentials", "username": "me", "password": self.key}
            self.browser.post(
                "Fetch.continueWithAuth", self.session, requestId=params["requestId"], authChallengeResponse=answer
            )
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"]["text"])

    def go(self, url: str) -> None:
        self.send("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """The expression's value as soon as it is true."""
        deadline = time.monotonic() + _TIMEOUT_S
        while not (value := self.run(script)):
            assert time.monotonic() < deadline, f"{script} stays false in: {self.run('document.body.innerText')}"
            time.sleep(0.1)
        return value

    def click(self, selector: str, text: str = "") -> None:
        """Click the first element that is there for the selector and begins with the text."""
        wanted = json.dumps([selector, text])
        found = f"(([s, t]) => [...document.querySelectorAll(s)].find(e => e.innerText.trim().startsWith(t)))({wanted})"
        self.wait_for(f"!!{found}")
        self.run(f"{found}.click()")

    def type(self, selector: str, text: str) -> None:
        self.wait_for(f"!!document.querySelector({json.dumps(selector)})")
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.send("Input.insertText", text=text)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

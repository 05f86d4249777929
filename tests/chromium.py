"""A headless Chromium that looks at pages, spoken to over a pipe; Debian has it as `chromium`."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.eventually import PATIENCE_SECONDS, wait_until

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def program() -> str:
    """Its path; the test is skipped, and says so, where there is none."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        pytest.skip("No Chromium is installed (Debian: apt install chromium): nobody looked.")
    return found


class Chromium:
    """One tab."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = answers
        self._count = 0
        self._rest = b""
        self._session = ""
        self.requests: list[str] = []
        """Every address that the page asked for."""
        self.errors: list[str] = []
        """What the page complained of."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> Mapping[str, Any]:
        """The answer to a command of the DevTools protocol."""
        self._count += 1
        message: dict[str, object] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            heard = self._next()
            if heard.get("id") == self._count:
                assert "error" not in heard, heard
                result: Mapping[str, Any] = heard["result"]
                return result
            self._note(heard)

    def look(self, page: Path, *, width: int, dark: bool) -> None:
        """Load the page from its file and wait until it stands."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.call("Page.navigate", url=page.as_uri())
        while True:
            heard = self._next()
            self._note(heard)
            if heard.get("method") == "Page.loadEventFired":
                return

    def visit(self, address: str, *, width: int = 1280, height: int = 900) -> None:
        """Load an address; what its scripts show stands there only after `until`."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.call("Page.navigate", url=address)

    def until(self, expression: str) -> Any:
        """Wait until a JavaScript expression is true on the page; returns its value."""

        value: Any = None

        def is_true() -> bool:
            nonlocal value
            told = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
            value = None if "exceptionDetails" in told else told["result"].get("value")
            return bool(value)

        try:
            wait_until(is_true, expression)
        except AssertionError as error:
            raise AssertionError(self.evaluate("document.body.innerText")) from error
        return value

    def click(self, element: str) -> None:
        """Click on what a JavaScript expression gives, once that is seen."""
        self.until(
            f"(e => e && e.offsetParent !== null && (e.click(), e.focus(), true))({element})"
        )

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def evaluate(self, expression: str) -> Any:
        """What a JavaScript expression gives on the page, whatever the page itself may run."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def picture(self, path: Path) -> None:
        """Write what is seen, the whole page, as PNG."""
        told = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(told["data"]))

    def printed(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = os.read(self._answers, 1 << 20)
            assert chunk, "Chromium has ended."
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        heard: dict[str, Any] = json.loads(message)
        return heard

    def _note(self, heard: Mapping[str, Any]) -> None:
        told = heard.get("params", {})
        match heard.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            case "Log.entryAdded":
                self.errors.append(told["entry"]["text"])
            case "Runtime.exceptionThrown" | "Runtime.consoleAPICalled":
                self.errors.append(str(told))


_ON_3_AND_4 = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""The protocol is spoken on these descriptors."""


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are not 3 and 4."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


@contextmanager
def chromium(profile: Path) -> Iterator[Chromium]:
    """A browser with a profile of its own, that ends with the block."""
    path = program()
    (command_in, command_out), (answer_in, answer_out) = _pipe(), _pipe()
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", _ON_3_AND_4, str(command_in), str(answer_out)),
            *(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--remote-debugging-pipe"),
            f"--user-data-dir={profile}",
        ],
        pass_fds=(command_in, answer_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile)},
    )
    os.close(command_in)
    os.close(answer_out)
    try:
        browser = Chromium(command_out, answer_in)
        yield browser
        browser._session = ""
        browser.call("Browser.close")
    finally:
        for descriptor in (command_out, answer_in):
            with suppress(OSError):
                os.close(descriptor)
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

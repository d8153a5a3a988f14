"""A headless Chromium, spoken to by its DevTools protocol over a pipe: JSON, each message ended by a zero byte."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio")
FLAGS += ("--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-sync")
WAIT = 60.0  # seconds for anything, on a busy machine
#: What a key is called by the protocol, where it is no letter.
CODES = {
    "ArrowRight": 39,
    "ArrowLeft": 37,
    "ArrowDown": 40,
    "ArrowUp": 38,
    "Home": 36,
    "End": 35,
    "PageDown": 34,
    "Escape": 27,
}


@dataclass
class Browser:
    to: int  # ends of pipes
    answers: int
    process: int
    number: int = 0
    ahead: bytes = b""  # what was read beyond the end of a message
    events: list[dict[str, Any]] = field(default_factory=list)

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self.number += 1
        message = {"id": self.number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            told = self._read()
            if told.get("id") == self.number:
                assert "error" not in told, (method, told["error"])
                return told["result"]
            self.events.append(told)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self.ahead:
            part = os.read(self.answers, 2**16)
            assert part, "Chromium ended"
            self.ahead += part
        message, _, self.ahead = self.ahead.partition(b"\0")
        return json.loads(message)

    def page(self, url: str = "about:blank") -> Page:
        target = self.call("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        if url != "about:blank":
            page.open(url)
        return page


@dataclass
class Page:
    browser: Browser
    session: str
    target: str

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **params)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression, waited for."""
        told = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def until(self, script: str) -> Any:
        """Wait until an expression is true."""
        end = time.monotonic() + WAIT
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.02)
        return value

    def press(self, *keys: str) -> None:
        for key in keys:
            code = CODES.get(key, ord(key.upper()[0]))
            own: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type="keyDown", **own, **({"text": key} if len(key) == 1 else {}))
            self.call("Input.dispatchKeyEvent", type="keyUp", **own)

    def errors(self) -> list[str]:
        """What scripts threw, and what the browser refused to do."""
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded")
        own = [e for e in self.browser.events if e.get("sessionId") == self.session and e.get("method") in kinds]
        return [json.dumps(e["params"])[:500] for e in own]

    def close(self) -> None:
        self.browser.call("Target.closeTarget", targetId=self.target)


@contextmanager
def chromium(profile: Path, width: int = 1200, height: int = 800) -> Iterator[Browser]:
    """A browser of its own, killed at the end."""
    assert PROGRAM is not None
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    command = [
        PROGRAM,
        *FLAGS,
        f"--user-data-dir={profile}",
        f"--window-size={width},{height}",
        "--remote-debugging-pipe",
    ]
    process = subprocess.Popen(
        ["bash", "-c", f'exec "$@" 3<&{their_in} 4>&{their_out}', "chromium", *command],
        pass_fds=(their_in, their_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(their_in)
    os.close(their_out)
    try:
        yield Browser(our_out, our_in, process.pid)
    finally:
        os.killpg(process.pid, 9)
        process.wait()
        os.close(our_out)
        os.close(our_in)

"""Chromium without a window, driven by its remote-debugging pipe; the protocol is DevTools' own."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DEADLINE_S = 120.0
KEYS = {
    "ArrowDown": 40,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowLeft": 37,
    "Enter": 13,
    "Escape": 27,
    "/": 191,
    "Tab": 9,
}


def program() -> str | None:
    """Where Chromium is; None when it is not."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One page."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self._events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command's result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            found = self._message()
            if found.get("id") == message["id"]:
                assert "error" not in found, found
                result: dict[str, Any] = found["result"]
                return result
            self._events.append(found)

    def _message(self) -> dict[str, Any]:
        until = time.monotonic() + DEADLINE_S
        while b"\0" not in self._buffer:
            left_s = until - time.monotonic()
            assert select.select([self._back], [], [], max(0.0, left_s))[0], "no word of Chromium"
            read = os.read(self._back, 1 << 16)
            assert read, "Chromium has ended"
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(line)
        return found

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next event of this name."""
        while True:
            for number, found in enumerate(self._events):
                if found.get("method") == event:
                    del self._events[: number + 1]
                    parameters: dict[str, Any] = found["params"]
                    return parameters
            self._events.append(self._message())

    def open(self, url: str) -> None:
        """Load a page, all of it."""
        self._events.clear()
        self.call("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")

    def size(self, width: int, height: int) -> None:
        """The window's size."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def tell(self, expression: str) -> Any:
        """What a JavaScript expression is."""
        said = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def drawn(self) -> None:
        """Wait until what was done is on the screen."""
        self.tell("new Promise(f => requestAnimationFrame(() => requestAnimationFrame(f)))")

    def press(self, key: str) -> None:
        """A key, down and up."""
        text = {"Enter": "\r", "/": "/"}.get(key)
        said: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": KEYS[key]}
        down = {**said, "type": "keyDown"} | ({"text": text} if text else {})
        self.call("Input.dispatchKeyEvent", **down)
        self.call("Input.dispatchKeyEvent", **said, type="keyUp")
        self.drawn()

    def type(self, text: str) -> None:
        """Text into what has the focus."""
        self.call("Input.insertText", text=text)
        self.drawn()

    def click(self, selector: str) -> None:
        """A click in the middle of an element, with the mouse."""
        self.tell(
            f"document.querySelector({json.dumps(selector)}).scrollIntoView("
            + "{block: 'nearest'})"
        )
        self.drawn()
        box = self.tell(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)})"
            ".getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=box[0],
                y=box[1],
                button="left",
                clickCount=1,
            )
        self.drawn()

    def errors(self) -> list[str]:
        """What went wrong in the page's scripts since it was opened."""
        self.drawn()
        wrong = ("Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(each) for each in self._events if each.get("method") in wrong]

    def picture(self, path: Path) -> None:
        """What is seen, as PNG."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def browser(place: Path) -> Iterator[Browser]:
    """Chromium with an empty profile in `place`; nothing of it is left at the end."""
    found = program()
    assert found
    their_in, to = os.pipe()
    back, their_out = os.pipe()
    words = [
        *(found, "--headless=new", "--no-sandbox", "--remote-debugging-pipe"),
        *("--disable-gpu", "--disable-dev-shm-usage", "--disable-breakpad", "--no-first-run"),
        *("--disable-crash-reporter", "--disable-background-networking", "--no-zygote"),
        *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
        f"--user-data-dir={place / 'profile'}",
    ]

    # Chromium reads commands from descriptor 3 and answers on 4.
    shell = f'exec "$@" 3<&{their_in} 4>&{their_out}'
    process = subprocess.Popen(
        ["/bin/bash", "-c", shell, "bash", *words],
        pass_fds=(their_in, their_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "HOME": str(place), "XDG_RUNTIME_DIR": str(place)},
        start_new_session=True,
    )
    os.close(their_in)
    os.close(their_out)
    try:
        made = Browser(to, back)
        yield made
        made._session = None
        with contextlib.suppress(AssertionError, BrokenPipeError):
            made.call("Browser.close")
        process.wait(DEADLINE_S)
    finally:
        os.close(to)
        os.close(back)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

"""A real Chromium for tests that look at a page, spoken to over its DevTools pipe: no driver and no library between."""

import base64
import json
import os
import shutil
import subprocess
import tempfile

PROGRAM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--hide-scrollbars"]


class Browser:
    """One page in a browser of its own; use it in a `with` block."""

    def __enter__(self):
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        (ours_in, self._write), (self._read, ours_out) = os.pipe(), os.pipe()
        flags = [*FLAGS, f"--user-data-dir={self._profile.name}", "--remote-debugging-pipe", "about:blank"]
        start = ["bash", "-c", f'exec "$@" 3<&{ours_in} 4>&{ours_out}', "bash", PROGRAM, *flags]
        self._process = subprocess.Popen(start, pass_fds=(ours_in, ours_out), stderr=subprocess.DEVNULL)
        os.close(ours_in)
        os.close(ours_out)
        self._buffer, self._n, self.requests = b"", 0, []
        target = next(t for t in self._ask("Target.getTargets", session=None)["targetInfos"] if t["type"] == "page")
        attached = self._ask("Target.attachToTarget", session=None, targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        self._ask("Network.enable")
        self._ask("Page.enable")
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(20)
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def _next(self):
        while b"\0" not in self._buffer:
            data = os.read(self._read, 1 << 16)
            assert data, "Chromium ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(message)
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        return message

    def _ask(self, method, *, session="", **params):
        self._n += 1
        number, message = self._n, {"id": self._n, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session or self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        while (answer := self._next()).get("id") != number:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def open(self, place, *, width, height=900, dark=False):
        """Show a file, or an address, in a window that is that many CSS pixels wide."""
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        self._ask("Page.navigate", url=place if isinstance(place, str) else place.absolute().as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def value(self, expression):
        """What a line of JavaScript gives."""
        answer = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def type(self, text):
        """Type into what has the focus."""
        self._ask("Input.insertText", text=text)

    def press(self, key, *, ctrl=False, shift=False):
        """Press a key: Tab, Enter, ArrowDown or a space."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowDown": 40}
        names = {
            "key": key,
            "code": {" ": "Space"}.get(key, key),
            "windowsVirtualKeyCode": codes[key],
            "modifiers": 2 * ctrl + 8 * shift,
        }
        text = {"Enter": "\r", " ": " "}.get(key) if not ctrl else None
        self._ask("Input.dispatchKeyEvent", type="keyDown", **names, **({"text": text} if text else {}))
        self._ask("Input.dispatchKeyEvent", type="keyUp", **names)

    def screenshot(self):
        """The whole page, as PNG."""
        return base64.b64decode(self._ask("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def pdf(self):
        """The page as it is printed."""
        return base64.b64decode(self._ask("Page.printToPDF", printBackground=False, paperWidth=8.27, paperHeight=11.69)["data"])

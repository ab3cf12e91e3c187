"""A headless Chromium, driven through its debugging pipe."""
import base64
import json
import os
import select
import shutil
import subprocess
import time

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One page of a browser with a profile of its own. Use it as a context manager."""

    def __init__(self, folder, url, size="1100,1000", options=()):
        assert BROWSER, "no chromium: make setup-tests"
        there, commands = os.pipe()
        answers, back = os.pipe()
        # The browser reads from 3 and writes to 4.
        command = 'exec 3<&%d 4>&%d; exec "$@"' % (there, back)
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", command, "bash", BROWSER, "--headless", "--no-sandbox", "--disable-gpu",
             "--remote-debugging-pipe",
             "--disable-background-networking", "--disable-component-update", "--no-first-run", "--hide-scrollbars",
             "--user-data-dir=%s" % folder, "--window-size=" + size, *options, "about:blank"],
            pass_fds=(there, back), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        os.close(there), os.close(back)
        self.commands, self.answers, self.buffer, self.number, self.session = commands, answers, b"", 0, None
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        self.call("Page.navigate", url=url)

    def call(self, method, timeout=30.0, **params):
        self.number += 1
        message = dict(id=self.number, method=method, params=params)
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            while b"\0" in self.buffer:
                text, self.buffer = self.buffer.split(b"\0", 1)
                answer = json.loads(text)
                if answer.get("id") == self.number:
                    assert "error" not in answer, answer
                    return answer["result"]
            if select.select([self.answers], [], [], 0.5)[0]:
                part = os.read(self.answers, 1 << 20)
                assert part, "the browser is gone"
                self.buffer += part
        raise TimeoutError(method)

    def evaluate(self, script):
        """The value of an expression in the page."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, script, timeout=15.0):
        """Waits until an expression is true; returns its value."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            value = self.evaluate(script)
            if value:
                return value
            time.sleep(0.1)
        raise AssertionError("%s did not come true; the page says:\n%s"
                             % (script, self.evaluate("document.body.innerText")))

    def screenshot(self, path, height):
        """The upper part of the page, as wide as the window."""
        width = self.evaluate("window.innerWidth")
        clip = dict(x=0, y=0, width=width, height=height, scale=1)
        picture = self.call("Page.captureScreenshot", format="png", clip=clip)["data"]
        path.write_bytes(base64.b64decode(picture))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.commands), os.close(self.answers)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)

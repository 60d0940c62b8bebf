# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A headless Chromium of one's own (Debian: chromium, chromium-driver, python3-selenium), for the recorder's page.

    with Browser(url, width=1280, height=800) as page:
        page.open("#/guests")
        page.wait(lambda: page.all(".vbody .vrow"), "guests are listed")
        page.text("h1")
        page.complaints()        what the console says, warnings and errors
        page.requests()          every URL that was asked for
        page.screenshot(path)

Without it the test is skipped, also where everything else must be there: CI need not install a browser.
"""

import json
import shutil
import tempfile

import pytest

from .waiting import wait_until

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
]  # fmt: skip


class Browser:
    def __init__(self, url, width=1280, height=860, language="en-GB", dark=False):
        webdriver = pytest.importorskip("selenium.webdriver", reason="python3-selenium is not installed (scripts/setup browser)")
        if not shutil.which("chromium") or not shutil.which("chromedriver"):
            pytest.skip("chromium is not installed (scripts/setup browser)")
        self.url = url
        self.directory = tempfile.mkdtemp(prefix="chromium-")
        options = webdriver.ChromeOptions()
        for flag in [*FLAGS, f"--window-size={width},{height}", f"--user-data-dir={self.directory}", f"--lang={language}"]:
            options.add_argument(flag)
        options.add_experimental_option("prefs", {"intl.accept_languages": language})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.chrome.service.Service(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        )
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]}
        )
        self._requests = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.driver.quit()
        shutil.rmtree(self.directory, ignore_errors=True)

    def open(self, hash=""):
        """Returns when the page has been told: get() does so before the page hears of another hash."""
        shown, _, old = self.driver.current_url.partition("#")
        if shown == f"{self.url}/" and hash and hash != f"#{old}":
            self.driver.execute_async_script(
                "const [hash, done] = arguments, old = location.hash; addEventListener('hashchange', () => done(), {once: true});"
                "location.hash = hash; if (location.hash === old) done();",
                hash,
            )
        else:
            self.driver.get(f"{self.url}/{hash}")

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        self.wait(lambda: self.all(selector), f"there is {selector}")
        return self.all(selector)[0]

    def text(self, selector):
        """What is shown; "" if there is no such element, or it was just replaced."""
        return self.run("const e = document.querySelector(arguments[0]); return e ? e.innerText : ''", selector)

    def wait(self, condition, what, deadline=20):
        wait_until(condition, deadline, lambda: f"{what}: {self.text('main')[:2000]}\n{self.complaints()}")

    def complaints(self):
        return [f"{e['level']} {e['message']}" for e in self.driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]

    def requests(self):
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self._requests.append(message["params"]["request"]["url"])
        return self._requests

    def screenshot(self, path):
        self.driver.save_screenshot(str(path))

"""A real browser: Debian's Chromium, driven by selenium, that reaches nothing but this machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.servers import skip_or_fail, wait_until

SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # tests run as root, too, which Chromium's sandbox refuses
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Browser:
    """One window."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def text(self, element_id: str) -> str:
        """What can be read there."""
        return self.find(f"#{element_id}").text

    def find(self, selector: str) -> WebElement:
        """The first of these."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def wait_for(self, element_id: str, words: str, *, seconds: float = 60.0) -> None:
        """Returns when these words can be read there."""
        wait_until(lambda: words in self.text(element_id), f"{words!r} in #{element_id}", seconds=seconds)

    def run(self, script: str) -> Any:
        """The value of a piece of JavaScript: selenium's own door, to which the page's policy does not apply."""
        return self.driver.execute_script(f"return {script}")  # type: ignore[no-untyped-call]

    def complaints(self) -> list[str]:
        """What the console holds since the last call: errors, and what the page's policy refused."""
        return [str(line["message"]) for line in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def requests(self) -> list[str]:
        """The addresses that were asked since the last call."""
        events = [
            json.loads(line["message"])["message"]
            for line in self.driver.get_log("performance")  # type: ignore[no-untyped-call]
        ]
        sent = [each for each in events if each["method"] == "Network.requestWillBeSent"]
        return [str(each["params"]["request"]["url"]) for each in sent]


@contextmanager
def running_browser(profile: Path, *, width: int = 1280, height: int = 1400) -> Iterator[Browser]:
    """A browser with an empty profile, while the block lasts."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        skip_or_fail("there is no browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in (*SWITCHES, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    try:
        yield Browser(driver)
    finally:
        driver.quit()

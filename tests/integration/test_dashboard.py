"""The dashboard in a real browser, beside a real API and a real worker.

The tests share one API, one worker and one browser, and go through the page as a newcomer does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
from selenium.webdriver.common.keys import Keys

from config.settings import S3Settings
from tests.api_process import ApiProcess, running_api
from tests.browser import Browser, running_browser
from tests.integration.conftest import NewSettings
from tests.integration.worker_process import WorkerProcess
from tests.ports import choose_port
from tests.servers import wait_until
from warmline.jobs.records import Options, Source
from warmline.jobs.submission import submit_batch, submit_job
from warmline.objects.store import ObjectStore

API_KEY = "the-key-of-this-test"
EVIL = "dashboard/<img src=x onerror=alert(1)><script>alert(2)</script>.wav"
HIDDEN_SECONDS = 4.0  # longer than from one look of the page to the next


class Site:
    """What the page shows, and how to stop it."""

    def __init__(self, directory: Path, redis_url: str, s3: S3Settings) -> None:
        self._given = (directory, redis_url, s3)
        self._variables = {"WARMLINE_API_KEYS": API_KEY, "WARMLINE_API_PORT": str(choose_port())}
        self._running = ExitStack()
        self.api: ApiProcess

    def start(self) -> None:
        self.api = self._running.enter_context(running_api(*self._given, **self._variables))

    def stop(self) -> None:
        self.api.process.kill()
        self._running.close()


@pytest.fixture(scope="module")
def site(
    module_redis_url: str, s3_settings: S3Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("api"), module_redis_url, s3_settings)
    site.start()
    yield site
    site.stop()


@pytest.fixture(scope="module")
def browser(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("profile")) as browser:
        browser.driver.get(f"{site.api.url}/")
        yield browser


@pytest.fixture(scope="module")
def worker(
    site: Site, module_redis_url: str, worker_settings: NewSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    with WorkerProcess(worker_settings(module_redis_url), tmp_path_factory.mktemp("worker") / "log") as worker:
        yield worker


def enter(browser: Browser, key: str) -> None:
    field = browser.find("#key")
    field.clear()
    field.send_keys(key, Keys.ENTER)


def test_a_wrong_key_is_told_in_a_sentence_and_not_kept(browser: Browser, site: Site) -> None:
    # Given the page, to which the API's bare address leads; it tells how it is before it knows a key
    assert browser.driver.current_url == f"{site.api.url}/dashboard"
    browser.wait_for("banner-head", "No worker is alive")
    wait_until(lambda: browser.find("#key").is_displayed(), "it asks for a key")
    assert browser.run("document.activeElement.id") == "key"
    assert not browser.find("#main").is_displayed()
    # When a wrong one is entered
    enter(browser, "another-key")
    # Then it says so, and shows and keeps nothing
    browser.wait_for("key-fault", "This key is not accepted")
    assert not browser.find("#main").is_displayed()
    assert browser.run("sessionStorage.length") == 0
    enter(browser, "clé")
    browser.wait_for("key-fault", "ASCII")
    expected = ("status of 401", "health - Failed to load resource: the server responded with a status of 503")
    assert [line for line in browser.complaints() if not any(each in line for each in expected)] == []


@pytest.mark.slow
def test_with_the_key_it_shows_calls_as_they_are_worked_on(
    browser: Browser, site: Site, worker: WorkerProcess, call: Source, tmp_path: Path
) -> None:
    enter(browser, API_KEY)
    wait_until(lambda: browser.find("#main").is_displayed(), "it shows something")
    assert "warmline submit" in browser.text("no-finished")
    browser.complaints()  # those of the time before
    # Given jobs that wait for a worker, one of which cannot be done and has a key that would like to be HTML
    (tmp_path / "bad").write_bytes(b"no audio" * 100)
    store = ObjectStore(worker.settings.s3)
    bad = store.put_call("calls", EVIL, tmp_path / "bad")
    submit_job(worker.ledger, call, options=Options(roles=("agent", "customer")), metadata={"name": "Mrs Marple"})
    submit_job(worker.ledger, bad)
    batch = submit_batch(worker.ledger, [call] * 3, options=Options(roles=("agent", "client")))
    browser.wait_for("tile-waiting", "5")
    browser.wait_for("batches", batch.id)
    browser.wait_for("batches", "0 of 3 ended")
    # When the worker is warm, then they appear where they ended
    worker.wait_warm()
    browser.wait_for("banner-head", "All is well", seconds=40)
    browser.wait_for("finished", call.key.rpartition("/")[2], seconds=40)
    browser.wait_for("failures", EVIL)
    browser.wait_for("failures", "not_audio")
    browser.wait_for("ended", "4 succeeded")
    browser.wait_for("ended", "1 failed")
    browser.wait_for("tile-waiting", "0")
    assert not browser.find("#batches-panel").is_displayed()
    assert {"agent", "customer"} <= set(browser.text("finished").split())
    assert "tiny" in browser.text("workers")
    assert "4 succeeded, 1 failed" in browser.find("#ended-bar").get_attribute("aria-label")  # type: ignore[operator]
    label = browser.find("#chart-backlog svg").get_attribute("aria-label")
    assert label is not None
    assert "the most in the last hour was" in label
    # And what came from outside is text
    assert browser.run("document.querySelectorAll('#main img, #main script, #main svg svg').length") == 0
    assert "Marple" not in browser.driver.page_source
    assert browser.complaints() == []


def test_a_call_s_picture_opens_and_closes_by_the_keyboard(browser: Browser) -> None:
    button = browser.find("#finished button")
    browser.run("document.querySelector('#finished button').focus()")
    button.send_keys(Keys.ENTER)
    wait_until(lambda: bool(browser.run("document.querySelector('#call img')?.naturalWidth > 100")), "the picture")
    assert browser.run("document.querySelector('#call').open")
    browser.find("#call-close").send_keys(Keys.ESCAPE)
    assert not browser.run("document.querySelector('#call').open")
    assert browser.run("document.activeElement.tagName") == "BUTTON"
    assert browser.complaints() == []


def test_the_key_is_in_no_address_and_nothing_is_asked_elsewhere(browser: Browser, site: Site) -> None:
    asked = browser.requests()
    assert len(asked) > 10
    assert not [url for url in asked if API_KEY in url or quote(API_KEY, safe="") in url]
    over_the_network = [url for url in asked if url.startswith(("http", "ws", "ftp"))]
    assert [url for url in over_the_network if not url.startswith(f"{site.api.url}/")] == []
    assert API_KEY not in browser.driver.page_source
    assert browser.run("localStorage.length") == 0
    assert browser.run("document.cookie") == ""


def test_it_fits_a_telephone_and_a_dark_room(browser: Browser) -> None:
    wide, light = browser.run("innerWidth"), browser.run("getComputedStyle(document.body).backgroundColor")
    try:
        browser.driver.set_window_size(500, 900)  # the narrowest that this browser's window can be
        wait_until(lambda: browser.run("innerWidth") < wide, "the window is narrow")
        browser.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": False},
        )
        wait_until(lambda: browser.run("innerWidth") == 360, "the page is narrow")
        assert browser.run("document.documentElement.scrollWidth") <= 360
        dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
        assert browser.run("getComputedStyle(document.body).backgroundColor") != light
        assert browser.run(WORST_CONTRAST) >= [4.5, ""]
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.driver.set_window_size(wide, 1400)
    assert browser.run(WORST_CONTRAST) >= [4.5, ""]


# The lowest contrast of a text with what is behind it, as WCAG 2 counts it.
WORST_CONTRAST = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v / 255 <= .04045 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = parts(getComputedStyle(each).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  let worst = [21, ""];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.data.trim(), element = texts.currentNode.parentElement;
    if (!text || !element.getClientRects().length || element.closest("svg, noscript")) continue;
    const [a, b] = [parts(getComputedStyle(element).color), behind(element)].map(light).sort((x, y) => y - x);
    const contrast = (a + .05) / (b + .05);
    if (contrast < worst[0]) worst = [contrast, text];
  }
  return worst;
})()"""


def test_a_hidden_page_asks_nothing_until_it_is_seen_again(browser: Browser) -> None:
    # Given a page that writes down, by its own clock, when it was hidden and when it was seen again
    browser.driver.execute_script(
        "window.turns = [];"
        # Captured, so that it is written before the page itself hears of it.
        "window.addEventListener('visibilitychange', () => window.turns.push(performance.now()), true);"
    )
    shown = browser.driver.current_window_handle
    # When another tab lies before it for longer than it waits between two looks
    browser.driver.switch_to.new_window("tab")
    time.sleep(HIDDEN_SECONDS)
    browser.driver.close()
    browser.driver.switch_to.window(shown)
    wait_until(lambda: browser.run("window.turns.length") == 2, "it was hidden and is seen again")
    hidden_ms, seen_ms = browser.run("window.turns")
    # Then it looks again, and has not looked meanwhile
    wait_until(lambda: looks(browser, after_ms=seen_ms) > 0, "it asks again")
    assert seen_ms - hidden_ms > 1000 * HIDDEN_SECONDS / 2
    assert looks(browser, after_ms=hidden_ms) == looks(browser, after_ms=seen_ms)


def looks(browser: Browser, *, after_ms: float) -> int:
    """How often the page has looked since then, by its own clock."""
    found = "performance.getEntriesByType('resource').filter((one) => one.name.endsWith('/v1/overview')"
    return int(browser.run(f"{found} && one.startTime > {after_ms}).length"))


def test_an_api_that_stops_is_told_and_that_it_is_back(browser: Browser, site: Site) -> None:
    browser.wait_for("banner-head", "All is well")
    site.stop()
    browser.wait_for("banner-head", "The API does not answer")
    assert "old" in browser.text("banner-text")
    assert "stale" in str(browser.find("#main").get_attribute("class"))
    assert browser.text("ended")  # what was known stays
    site.start()
    browser.wait_for("banner-head", "All is well")
    assert "stale" not in str(browser.find("#main").get_attribute("class"))


def test_a_worker_that_is_killed_is_told(browser: Browser, worker: WorkerProcess) -> None:
    worker.process.kill()
    wait_until(lambda: "No worker" in browser.text("banner-head"), "the page says so")
    browser.find("#forget").click()
    assert browser.find("#key").is_displayed()
    assert browser.run("sessionStorage.length") == 0

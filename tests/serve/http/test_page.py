from __future__ import annotations

import json
import re

import pytest
from support.chromium import PROGRAM, Browser
from support.serving import ServerProcess, wait_until
from support.tiny_bundle import write_bundle

from potstill.serve.http.application.lookups import FOLDER

KEY = "a-key-of-some-length"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    plain = write_bundle(root / "plain", thresholds={"up": 0.3, "flat": 0.9, "down": None})
    pairs = write_bundle(root / "pairs", target=True)
    with ServerProcess(f"plain={plain}", f"pairs={pairs}") as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    if PROGRAM is None:
        pytest.skip("there is no Chromium; install Debian's package chromium to look at the page in a real browser")
    with Browser() as browser:
        yield browser


def open_page(server, browser, **options):
    browser.requests.clear()
    browser.open(f"http://127.0.0.1:{server.port}/", **{"width": 1000, **options})
    wait_until(lambda: browser.value("document.querySelectorAll('#example-list li').length") == 3, "examples")


def bars(browser):
    rows = browser.value(
        "[...document.querySelectorAll('#bars li')].map(li => [...li.querySelectorAll('span')].map(s => s.textContent))"
    )
    return {name: float(share.removesuffix(" %")) for name, share in rows}


def answered(browser):
    wait_until(lambda: not browser.value("document.getElementById('answer').hidden"), "an answer")
    return browser.value("document.getElementById('verdict').textContent")


def test_the_page_loads_nothing_from_elsewhere_and_may_not(server):
    for path in ("/", "/playground.css", "/playground.js"):
        status, body, headers = server.ask("GET", path)
        assert status == 200 and headers["x-content-type-options"] == "nosniff"
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
        assert "unsafe" not in policy
        addresses = set(re.findall(rb"https?://[^\s\"']+", body))
        assert addresses <= {b"http://www.w3.org/2000/svg"}  # a name, not a place
    assert "style=" not in (FOLDER / "playground.html").read_text()


def test_a_text_typed_by_keyboard_alone_gets_its_bars(server, browser):
    open_page(server, browser)
    assert browser.value("document.activeElement.id") == "text"
    browser.type("rise rise")
    browser.press("Enter", ctrl=True)
    verdict = answered(browser)
    expected = server.classify(text="rise rise")[1]["answer"]
    assert expected["label"] in verdict
    assert bars(browser) == {name: pytest.approx(100 * prob, abs=0.051) for name, prob in expected["probs"].items()}
    assert re.search(
        r"ms from here and back: tokenize [\d.]+ ms, model [\d.]+ ms", browser.value("document.getElementById('times').textContent")
    )
    assert browser.value("document.querySelectorAll('#bars .edge').length") == 2  # the thresholds that are numbers above 0
    order = []
    for _ in range(4):
        browser.press("Tab")
        order.append(browser.value("document.activeElement.tagName + ' ' + document.activeElement.textContent.slice(0, 9)"))
    assert order == ["BUTTON Classify", "BUTTON the price", "BUTTON fall", "BUTTON stay. sta"[: len("BUTTON ") + 9]]
    assert {url.split("/")[2] for url in browser.requests if not url.startswith("data:")} == {f"127.0.0.1:{server.port}"}


def test_an_example_is_classified_when_it_is_chosen_by_key(server, browser):
    open_page(server, browser)
    for _ in range(3):
        browser.press("Tab")
    browser.press("Enter")
    verdict = answered(browser)
    expected = server.classify(text="fall")[1]["answer"]
    assert browser.value("document.getElementById('text').value") == "fall"
    assert verdict.startswith("Not sure: ") == expected["abstain"]


def test_another_bundle_shows_its_target(server, browser):
    open_page(server, browser)
    assert browser.value("document.getElementById('target-row').hidden")
    browser.value(
        "(() => { const s = document.getElementById('bundle'); s.value = 'pairs'; s.dispatchEvent(new Event('change')); })()"
    )
    assert not browser.value("document.getElementById('target-row').hidden")
    browser.value("document.querySelector('#example-list button').click()")
    answered(browser)
    assert browser.value("document.getElementById('target').value") == "the price"


def test_a_text_is_shown_as_text_and_a_refusal_as_its_line(server, browser):
    open_page(server, browser)
    browser.value("document.getElementById('text').value = '<img src=x onerror=window.bad=1>'.repeat(7000)")
    browser.press("Enter", ctrl=True)
    wait_until(lambda: not browser.value("document.getElementById('problem').hidden"), "a problem")
    assert "characters; at most 200000 are allowed" in browser.value("document.getElementById('problem').textContent")
    assert browser.value("window.bad === undefined && document.querySelector('img') === null")


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_narrow_screen(server, browser, dark, tmp_path):
    open_page(server, browser, width=320, height=640, dark=dark)
    browser.type("the price will rise " * 5)
    browser.press("Enter", ctrl=True)
    answered(browser)
    assert browser.value("document.documentElement.scrollWidth") <= 320
    (tmp_path / "narrow.png").write_bytes(browser.screenshot())


def test_a_key_is_asked_for_where_one_is_needed(browser, tmp_path):
    with ServerProcess(write_bundle(tmp_path / "plain"), env={"POTSTILL_KEYS": KEY}) as server:
        browser.open(f"http://127.0.0.1:{server.port}/", width=1000)
        wait_until(lambda: not browser.value("document.getElementById('key-row').hidden"), "a field for the key")
        browser.value(f"document.getElementById('key').value = {json.dumps(KEY)}")
        browser.value("document.getElementById('text').focus()")
        browser.type("rise")
        browser.press("Enter", ctrl=True)
        answered(browser)

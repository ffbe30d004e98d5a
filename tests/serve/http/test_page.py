from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect
from support.browser import recorded_requests
from support.serving import ServerProcess
from support.tiny_bundle import some_heads, write_bundle

from potstill.serve.http.application.lookups import FOLDER

pytestmark = pytest.mark.slow

KEY = "a-key-of-some-length"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    plain = write_bundle(root / "plain", thresholds={"up": 0.3, "flat": 0.9, "down": None})
    pairs = write_bundle(root / "pairs", target=True)
    with ServerProcess(f"plain={plain}", f"pairs={pairs}") as server:
        yield server


INTENTS = [f"intent {n}" for n in range(77)]


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    root = tmp_path_factory.mktemp("several")
    intent = some_heads(move={"name": "intent", "labels": INTENTS, "bias": None})[0]
    four, many = write_bundle(root / "four", heads=some_heads()), write_bundle(root / "many", heads=[intent, *some_heads()])
    one = write_bundle(root / "intents", labels=INTENTS)
    with ServerProcess(f"four={four}", f"many={many}", f"intents={one}") as server:
        yield server


def address(server):
    return f"http://127.0.0.1:{server.port}/"


def open_playground(page, server):
    page.goto(address(server))
    expect(page.locator("#example-list li")).to_have_count(3)


def bars(page):
    names, shares = (page.locator(f"#bars {kind}").all_text_contents() for kind in (".name", ".share"))
    return {name: float(share.removesuffix(" %")) for name, share in zip(names, shares, strict=True)}


def verdict(page):
    expect(page.locator("#answer")).to_be_visible()
    return page.locator("#verdict").text_content()


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


def test_a_text_typed_by_keyboard_alone_gets_its_bars(server, new_page):
    page = new_page()
    asked = recorded_requests(page)
    open_playground(page, server)
    expect(page.get_by_label("Text", exact=True)).to_be_focused()
    page.keyboard.type("rise rise")
    page.keyboard.press("Control+Enter")
    expected = server.classify(text="rise rise")[1]["answer"]
    assert expected["label"] in verdict(page)
    assert bars(page) == {name: pytest.approx(100 * prob, abs=0.051) for name, prob in expected["probs"].items()}
    expect(page.locator("#times")).to_have_text(re.compile(r"ms round trip: tokenize [\d.]+ ms, model [\d.]+ ms"))
    expect(page.locator("#bars .edge")).to_have_count(2)  # the thresholds that are numbers above 0
    for name in ("Classify", "the price", "fall", "stay"):
        page.keyboard.press("Tab")
        focused = page.locator("button:focus")
        expect(focused).to_have_text(re.compile(f"^{name}"))
    assert {urlsplit(url).netloc for url in asked} == {f"127.0.0.1:{server.port}"}


def test_an_example_is_classified_when_it_is_chosen_by_key(server, new_page):
    page = new_page()
    open_playground(page, server)
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expected = server.classify(text="fall")[1]["answer"]
    assert verdict(page).startswith("Not sure: ") == expected["abstain"]
    expect(page.get_by_label("Text", exact=True)).to_have_value("fall")


def test_another_bundle_shows_its_target(server, new_page):
    page = new_page()
    open_playground(page, server)
    target = page.get_by_label("Target: what the text is about")
    expect(target).to_be_hidden()
    page.get_by_role("combobox", name="Bundle").select_option("pairs")
    expect(target).to_be_visible()
    page.locator("#example-list button").first.click()
    verdict(page)
    expect(target).to_have_value("the price")


def test_a_text_is_shown_as_text_and_a_refusal_as_its_line(server, new_page):
    page = new_page()
    open_playground(page, server)
    text = "<img src=x onerror=window.bad=1>" * 7000
    page.get_by_label("Text", exact=True).evaluate("(field, text) => { field.value = text }", text)  # more than can be typed
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("characters; at most 200000 are allowed")
    expect(page.locator("img")).to_have_count(0)
    assert page.evaluate("window.bad === undefined")


@pytest.mark.parametrize(("dark", "paper"), [(False, "rgb(251, 250, 247)"), (True, "rgb(25, 26, 25)")], ids=["light", "dark"])
def test_it_fits_a_narrow_screen(server, new_page, dark, paper, tmp_path):
    page = new_page(width=320, height=640, dark=dark)
    open_playground(page, server)
    page.keyboard.type("the price will rise " * 5)
    page.keyboard.press("Control+Enter")
    verdict(page)
    expect(page.locator("body")).to_have_css("background-color", paper)
    page.screenshot(path=tmp_path / "narrow.png", full_page=True)  # to look at
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_the_page_asks_for_a_key_where_one_is_required(new_page, tmp_path):
    with ServerProcess(write_bundle(tmp_path / "plain"), env={"POTSTILL_KEYS": KEY}) as server:
        page = new_page()
        page.goto(address(server))
        page.get_by_label("API key: this server requires one").fill(KEY)
        page.get_by_label("Text", exact=True).fill("rise")
        page.keyboard.press("Control+Enter")
        verdict(page)


def ask_about(page, server, text, bundle):
    page.goto(address(server))
    page.get_by_role("combobox", name="Bundle").select_option(bundle)
    page.get_by_label("Text", exact=True).fill(text)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#answer")).to_be_visible()


def test_several_questions_are_shown_together_each_with_its_answer(several, new_page):
    page = new_page()
    asked = recorded_requests(page)
    ask_about(page, several, "stay. stay?", "four")
    answer = several.classify(text="stay. stay?")[1]["answer"]["questions"]
    expect(page.locator(".question")).to_have_count(4)
    expect(page.locator("#about")).to_contain_text("4 questions: move, asks, topics, sure.")
    for name, one in answer.items():
        section = page.get_by_role("region", name=name, exact=True)
        names, shares = (section.locator(kind).all_text_contents() for kind in (".bars .name", ".bars .share"))
        found = {label: float(share.removesuffix(" %")) for label, share in zip(names, shares, strict=True)}
        assert found == {label: pytest.approx(100 * prob, abs=0.051) for label, prob in one["probs"].items()}
        said = section.locator(".said").text_content()
        assert section.locator(".best").all_text_contents() == (
            sorted(one["tags"], key=one["probs"].get, reverse=True) if "tags" in one else [one["label"]]
        )
        assert said == ", ".join(one["tags"]) if "tags" in one else one["label"] in said
    levels = page.get_by_role("region", name="sure", exact=True).locator(".name").all_text_contents()
    assert levels == ["low", "middle", "high"]  # in their order, whatever their probabilities
    expect(page.get_by_role("region", name="sure", exact=True)).to_contain_text(f"expected value {answer['sure']['value']:.2f}")
    expect(page.locator("#verdict")).to_be_hidden()
    expect(page.locator("summary")).to_have_count(0)
    assert {urlsplit(url).netloc for url in asked} == {f"127.0.0.1:{several.port}"}


@pytest.mark.parametrize("bundle", ["many", "intents"])
def test_of_many_labels_the_first_five_are_shown_and_the_others_are_found_by_keyboard(several, new_page, bundle):
    page = new_page()
    ask_about(page, several, "rise", bundle)
    reply = several.post(f"/bundles/{bundle}/classify", {"text": "rise"})[1]["answer"]
    probs = reply["probs"] if bundle == "intents" else reply["questions"]["intent"]["probs"]
    order = sorted(probs, key=probs.get, reverse=True)
    names = page.locator(".bars .name:visible").all_text_contents()
    assert names[:5] == order[:5] and len(names) == (5 if bundle == "intents" else 5 + 11)
    summary = page.locator("summary")
    expect(summary).to_have_text("72 more labels")
    summary.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    box = page.get_by_label("Find a label")
    expect(box).to_be_focused()
    page.keyboard.type("INTENT 7")
    shown = page.locator("details .name:visible")
    expect(shown).to_have_count(len([name for name in order[5:] if name.startswith("intent 7")]))
    page.keyboard.type(" weather")
    expect(shown).to_have_count(0)
    expect(page.get_by_text("No label among these has that in its name.")).to_be_visible()
    if bundle == "intents":
        expect(page.locator("#about")).to_contain_text("77 labels: intent 0, intent 1, intent 2, intent 3, intent 4 and 72 more.")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_several_questions_fit_a_narrow_screen(several, new_page, dark, tmp_path):
    page = new_page(width=320, height=640, dark=dark)
    ask_about(page, several, "the price will rise " * 5, "many")
    page.locator("summary").click()
    page.screenshot(path=tmp_path / "narrow.png", full_page=True)  # to look at
    assert page.evaluate("document.documentElement.scrollWidth") <= 320

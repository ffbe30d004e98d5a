"""People label in a real browser: by keyboard, without script, on every kind of question, and settle what they disagree about."""

import re

import pytest
from playwright.sync_api import expect
from support.browser import recorded_requests
from support.review_pages import ReviewProcess, journal_rows, some_texts, write_store
from support.small_task import SMALL_TASK
from support.toy_questions import EVERY_KIND

from potstill.contract.errors import UserError
from potstill.contract.questions.questionnaire import load_any_task
from potstill.contract.texts import Text, read_texts
from potstill.workflows.people.gold import gather_gold

pytestmark = pytest.mark.slow


def a_server(folder, task=SMALL_TASK, texts=None, **options):
    (folder / "task.toml").write_text(task)
    write_store(folder / "labels.db", folder / "task.toml", texts or some_texts(40))
    return ReviewProcess(folder / "labels.db", folder / "task.toml", **options)


def press(page, key):
    """Press a key that labels or skips, and wait until another text, or the same one again, is there."""
    before = page.locator("input[name=entry]").get_attribute("value")
    page.keyboard.press(key)
    expect(page.locator(f"input[name=entry][value='{before}']")).to_have_count(0)
    expect(page.locator("#main")).to_be_visible()


def test_thirty_texts_are_labelled_by_keyboard_undone_and_written_as_gold(tmp_path, new_page):
    with a_server(tmp_path) as server:
        page = new_page()
        asked = recorded_requests(page)
        page.goto(server.addresses["ann"])
        seen = {}
        for i in range(30):
            text_id = page.locator("input[name=id]").first.get_attribute("value")
            seen[text_id] = ["up", "down"][i % 2]
            press(page, "12"[i % 2])
        press(page, "u")
        assert page.locator("input[name=id]").first.get_attribute("value") == text_id
        press(page, "s")
        expect(page.locator(".who")).to_contain_text("30 done")
        assert all(address.startswith((f"http://127.0.0.1:{server.port}/", "data:")) for address in asked)
        found = gather_gold(server.store, tmp_path / "gold.jsonl")
    assert {text.id: text.gold for text in found.texts} == {key: value for key, value in seen.items() if key != text_id}
    assert found.n_skipped == 1
    labels = load_any_task(tmp_path / "task.toml").label_names
    assert len(read_texts(tmp_path / "gold.jsonl", labels=labels, gold=True).texts) == 29


def test_the_teacher_is_hidden_until_a_key_shows_it_and_that_is_noted(tmp_path, new_page):
    with a_server(tmp_path) as server:
        page = new_page()
        page.goto(server.addresses["ann"])
        assert "speaks for" not in page.content()
        page.keyboard.press("r")
        expect(page.locator(".rationales li").first).to_contain_text("It speaks for")
        page.keyboard.press("n")
        page.keyboard.type("1 is what r says")
        page.keyboard.press("Escape")
        press(page, "2")
        row = journal_rows(server.store)[-1]
        assert (row.labels, row.note, row.revealed, row.mode) == ("down", "1 is what r says", True, "random")


def test_one_of_77_labels_is_found_by_its_first_letters(tmp_path, new_page):
    labels = "\n".join(
        f'[[labels]]\nname = "{word}_{n}"' for n in range(11) for word in "card cash cheque fee limit refund top".split()
    )
    with a_server(tmp_path, f'format = 1\nname = "t"\nquestion = "Which?"\n{labels}\n', some_texts(4)) as server:
        page = new_page()
        page.goto(server.addresses["ann"])
        expect(page.locator("[data-find]")).to_be_focused()
        page.keyboard.type("fee 7")
        expect(page.locator(".choice:visible")).to_have_count(1)
        press(page, "Enter")
        assert journal_rows(server.store)[-1].labels == "fee_7"
        page.keyboard.press("Escape")
        press(page, "s")
        assert journal_rows(server.store)[-1].skipped


def test_every_kind_of_question_is_answered_by_number_keys(tmp_path, new_page):
    with a_server(tmp_path, EVERY_KIND, some_texts(4)) as server:
        page = new_page()
        page.goto(server.addresses["ann"])
        for key in "3213":  # down, no; then two tags
            page.keyboard.press(key)
        page.keyboard.press("Enter")
        page.keyboard.press("2")
        expect(page.locator("#save")).to_be_focused()
        press(page, "Enter")
        rows = {row.question: row.labels for row in journal_rows(server.store)}
        assert rows == {"move": "down", "asks": "no", "topics": ["news", "people"], "sure": "middle"}
        gold = gather_gold(server.store, tmp_path / "gold.jsonl")
    assert gold.n_answers == 4
    assert '"topics":["news","people"]' in (tmp_path / "gold.jsonl").read_text()


def test_the_pages_work_without_script(tmp_path, browser):
    with a_server(tmp_path) as server, browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(server.addresses["ann"])
        page.get_by_role("button", name="up").click()
        page.get_by_role("button", name="Skip").click()
        page.get_by_role("button", name="Undo").click()
        page.get_by_role("link", name="Texts").click()
        page.get_by_label("Show").select_option("labelled by me")
        page.get_by_role("button", name="Find").click()
        expect(page.locator(".list li")).to_have_count(1)
        assert [(row.labels, row.skipped, bool(row.undoes)) for row in journal_rows(server.store)] == [
            ("up", False, False),
            (None, True, False),
            (None, False, True),
        ]


def test_two_people_disagree_and_one_of_them_resolves_it(tmp_path, new_page):
    with a_server(tmp_path, people=("ann", "bob")) as server:
        pages = {}
        for person, key in (("ann", "1"), ("bob", "2")):
            pages[person] = new_page()
            pages[person].goto(server.addresses[person])
            assert "Everybody is shown this text" in pages[person].content()
            press(pages[person], key)
        with pytest.raises(UserError, match="1 answers are left out: people disagree"):
            gather_gold(server.store, tmp_path / "gold.jsonl")
        page = pages["bob"]
        page.get_by_role("link", name="Agreement", exact=True).click()
        expect(page.get_by_text("Open disagreements: 1")).to_be_visible()
        expect(page.locator("tbody").last).to_contain_text("ann and bob")
        page.get_by_role("link", name="resolve them").click()
        page.get_by_role("button", name="up").click()
        expect(page.get_by_text("Resolved by bob")).to_be_visible()
        gold = gather_gold(server.store, tmp_path / "gold.jsonl")
    assert [text.gold for text in gold.texts] == ["up"] and gold.n_resolved == 1


def test_a_text_with_markup_is_read_and_runs_nothing(tmp_path, new_page):
    evil = '</textarea></script><script>document.title="run"</script><img src=x onerror="document.title=\'run\'"><svg onload="document.title=\'run\'"> {{ 7*7 }}'
    with a_server(tmp_path, texts=[Text(evil, "e"), *some_texts(2)]) as server:
        page = new_page()
        failures = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(server.addresses["ann"])
        page.goto(f"http://127.0.0.1:{server.port}/label?id=e")
        expect(page.locator("#text")).to_have_text(evil)
        page.keyboard.press("n")
        page.keyboard.type(evil)
        page.keyboard.press("Escape")
        press(page, "1")
        page.get_by_role("link", name="Texts").click()
        expect(page.locator(".list li").first).to_contain_text("{{ 7*7 }}")
        assert "run" not in page.title() and not failures


def test_a_label_that_could_not_be_stored_stays_on_the_page_and_says_so(tmp_path, new_page):
    with a_server(tmp_path) as server:
        page = new_page()
        page.goto(server.addresses["ann"])
        text = page.locator("#text").text_content()
        server.process.kill()
        server.process.wait()
        page.keyboard.press("1")
        expect(page.locator("#status")).to_contain_text("not stored")
        assert page.locator("#text").text_content() == text
    assert journal_rows(tmp_path / "labels.db") == []


def test_what_was_chosen_and_not_sent_is_there_again_after_a_reload_and_gone_once_it_is_sent(tmp_path, new_page):
    with a_server(tmp_path, EVERY_KIND, some_texts(4)) as server:
        page = new_page()
        page.goto(server.addresses["ann"])
        page.keyboard.press("3")
        page.keyboard.press("n")
        page.keyboard.type("half a thought")
        text_id = page.locator("input[name=id]").first.get_attribute("value")
        page.reload()
        assert page.locator("input[name=id]").first.get_attribute("value") == text_id
        expect(page.locator("#note")).to_have_value("half a thought")
        expect(page.get_by_role("radio", name="down")).to_be_checked()
        page.get_by_role("button", name="Save").click()
        expect(page.locator(f"input[name=id][value={text_id}]")).to_have_count(0)
        assert journal_rows(server.store)[0].note == "half a thought"
        page.goto(f"http://127.0.0.1:{server.port}/label?id={text_id}")
        page.locator("#note").fill("")
        before = page.locator("input[name=entry]").get_attribute("value")
        page.get_by_role("button", name="Save").click()
        expect(page.locator(f"input[name=entry][value='{before}']")).to_have_count(0)
        assert page.evaluate("Object.keys(sessionStorage).filter((key) => key.startsWith('draft')).length") == 0


@pytest.mark.parametrize(("width", "dark"), [(1000, False), (390, True)])
def test_a_page_fits_the_screen(tmp_path, new_page, width, dark):
    with a_server(tmp_path, EVERY_KIND, [Text("word " * 400 + "x" * 300, "long", None), *some_texts(3)]) as server:
        page = new_page(width=width, dark=dark)
        page.goto(server.addresses["ann"])
        for path in ("label", "label?id=long&reveal=1", "texts", "agreement", "disagreements", "steer?id=long"):
            page.goto(f"http://127.0.0.1:{server.port}/{path}")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
            assert not re.search("Traceback|undefined", page.content())

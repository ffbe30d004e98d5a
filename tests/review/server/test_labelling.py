"""What is sent is stored once and at once, whoever else labels at the same time."""

import signal

import pytest
from support.review_pages import ReviewProcess, journal_rows, some_texts, write_store
from support.small_task import SMALL_TASK

from potstill.contract.texts import Text

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "task.toml").write_text(SMALL_TASK)
    texts = [*some_texts(5), Text("has gold", "g", gold="up")]
    write_store(tmp_path / "labels.db", tmp_path / "task.toml", texts)
    return tmp_path


def started(folder, *args, **options):
    return ReviewProcess(folder / "labels.db", folder / "task.toml", *args, **options)


def test_each_text_comes_once_until_none_waits_and_those_with_gold_never(folder):
    with started(folder) as server:
        ann = server.visitor()
        assert sorted(ann.label("up") for _ in range(5)) == [f"t{i}" for i in range(5)]
        assert "Nothing waits for you" in ann.get("/label")
        assert "has gold" in ann.get("/label?id=g")
        assert server.stop() == 0
    assert {(row.mode, row.labels) for row in journal_rows(server.store)} == {("random", "up")}


def test_a_form_that_is_sent_again_is_stored_once(folder):
    with started(folder) as server:
        ann = server.visitor()
        form = ann.shown() | {"answer.": "up"}
        assert [ann.post("/label", form)[0] for _ in range(3)] == [303, 303, 303]
        assert len(journal_rows(server.store)) == 1


def test_two_tabs_with_one_text_lose_nothing_and_the_last_one_counts(folder):
    with started(folder) as server:
        ann = server.visitor()
        one, other = ann.shown(), ann.shown()
        assert one["id"] == other["id"]
        ann.post("/label", one | {"answer.": "up", "note": "first tab"})
        ann.post("/label", other | {"answer.": "down", "note": "second tab"})
        assert [(row.labels, row.note) for row in journal_rows(server.store)] == [("up", "first tab"), ("down", "second tab")]
        assert 'value="second tab"' not in ann.get("/label") and "second tab" in ann.get(f"/label?id={one['id']}")


def test_two_servers_over_one_store_see_each_others_labels(folder):
    with started(folder) as one, started(folder, people=("ann", "bob")) as other:
        first, second = one.visitor(), other.visitor("bob")
        text = first.label("up")
        second.label("down", path=f"/label?id={text}")
        assert "ann</strong> · 1 done" in first.get("/label")
        assert "Open disagreements: 1" in first.get("/agreement") and "Open disagreements: 1" in second.get("/agreement")


def test_undo_takes_back_the_last_entry_alone_and_shows_its_text(folder):
    with started(folder) as server:
        ann = server.visitor()
        first, last = ann.label("up"), ann.label("down")
        _, headers, _ = ann.post("/undo", {})
        assert headers["location"] == f"/label?id={last}" and ann.shown()["id"] == last and ann.shown()["mode"] == "random"
        assert ann.post("/undo", {})[1]["location"] == f"/label?id={first}"
        assert ann.post("/undo", {})[1]["location"] == "/label"


def test_only_what_came_from_the_queue_counts_as_found_at_random(folder):
    with started(folder, "--overlap", "0", people=("ann", "bob")) as server:
        ann, bob = server.visitor("ann"), server.visitor("bob")
        own = ann.shown()["id"]
        bob.label("up", path=f"/label?id={own}", mode="random")
        ann.label("up")
        assert [(row.person, row.mode) for row in journal_rows(server.store)] == [("bob", "search"), ("ann", "random")]


def test_after_a_search_one_is_back_in_the_list_where_one_was(folder):
    with started(folder) as server:
        ann = server.visitor()
        form = ann.shown("/label?id=t3") | {"answer.": "up", "back": "q=number+3&show=all&page=1"}
        form["mode"] = "search"
        assert ann.post("/label", form)[1]["location"] == "/texts?q=number+3&show=all&page=1"
        evil = {**ann.shown("/label?id=t4"), "mode": "search", "answer.": "up", "back": "x=1\r\nset-cookie: a=b&//evil.example"}
        location = ann.post("/label", evil)[1]["location"]
        assert location == "/texts?x=1%0D%0Aset-cookie%3A+a%3Db"


def test_sighup_prints_new_addresses_and_leaves_everybody_in(folder):
    with started(folder) as server:
        ann = server.visitor()
        server.process.send_signal(signal.SIGHUP)
        old, server.addresses = server.addresses, server.read_addresses()
        assert server.addresses["ann"] != old["ann"]
        assert server.visitor().get("/label") and ann.get("/label")


def test_a_list_page_filters_and_pages_whatever_is_asked(folder):
    with started(folder) as server:
        ann = server.visitor()
        text = ann.label("up", note="look again")
        assert "1 texts" in ann.get("/texts?show=mine&label=up") and "0 texts" in ann.get("/texts?show=mine&label=down")
        assert "1 texts" in ann.get("/texts?show=noted") and "5 texts" in ann.get("/texts?show=todo")
        assert f"id={text}" in ann.get("/texts?show=mine")
        for page in ("0", "-1", "99999999999999999999", "9" * 5000, "x", "²", ""):
            assert "6 texts" in ann.get(f"/texts?page={page.replace('²', '%C2%B2')}&show=nothing")

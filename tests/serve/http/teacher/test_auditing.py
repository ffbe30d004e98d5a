"""The audit of a real server, with a process that answers in the teacher's place."""

from __future__ import annotations

import signal
import time

import pytest
from support.serving import LinkedServer, wait_until
from support.teachers.fallback_stand_in import FIRST, StandIn
from support.tiny_bundle import LABELS, write_bundle

from potstill.contract.fallback.audit import read_audit

pytestmark = pytest.mark.slow

EASY, HARD = "rise", "fall"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundles") / "b", thresholds={"down": 0.45})


def audited(bundle, folder, share=1.0, config=None, **settings):
    audit = {"share": share, "file": str(folder / "audit.jsonl"), **settings}
    link = {"socket": str(folder / "teacher.sock"), "labels": LABELS, "target": False}
    return LinkedServer(bundle, config=config, **link, audit=audit)


def drawn(server):
    """Texts that were drawn and are done with."""
    return sum(value for (name, _), value in server.metrics().items() if name == "potstill_audit_total")


def test_both_answers_are_kept_and_the_texts_of_requests_come_first(bundle, tmp_path):
    with StandIn(tmp_path / "teacher.sock", LABELS) as teacher, audited(bundle, tmp_path) as server:
        wait_until(lambda: server.classify(text=HARD)[1]["answer"]["answered_by"] == "teacher", "the teacher answers")
        while teacher.question()["background"]:
            pass  # the texts that were drawn while it was away
        server.classify(text=EASY)
        while not (question := teacher.question())["background"] or question["text"] != EASY:
            pass
        wait_until(lambda: EASY in {one.text for one in read_audit(tmp_path / "audit.jsonl").records}, "the text is kept")
    records = {one.text: one for one in read_audit(tmp_path / "audit.jsonl").records}
    easy, hard = records[EASY], records[HARD]
    assert (easy.bundle, easy.label, easy.abstain, easy.teacher) == ("tiny", "flat", False, "stand-in")
    assert easy.teacher_probs["up"] == FIRST and len(easy.version) == 12 and abs(easy.at - time.time()) < 60
    # the bundle's own answer is kept where the teacher's was given
    assert (hard.label, hard.abstain, hard.teacher_label) == ("down", True, "up")


def test_the_share_is_that_of_all_texts(bundle, tmp_path):
    with StandIn(tmp_path / "teacher.sock", LABELS), audited(bundle, tmp_path, 0.1) as server:
        for _ in range(20):
            server.classify(texts=[EASY, HARD] * 30)
        wait_until(lambda: drawn(server) > 0, "some texts are drawn")
        time.sleep(1)
        n = drawn(server)
    assert 50 < n < 220  # of 1200 about a tenth; all of them fit in the queue
    assert {one.text for one in read_audit(tmp_path / "audit.jsonl").records} == {EASY, HARD}


def test_an_audit_costs_requests_nothing_where_the_teacher_is_held(bundle, tmp_path):
    with StandIn(tmp_path / "teacher.sock", LABELS) as teacher, audited(bundle, tmp_path) as server:
        wait_until(lambda: server.classify(text=HARD)[1]["answer"]["answered_by"] == "teacher", "the teacher answers")
        wait_until(lambda: drawn(server) > 0, "the audit goes on")
        teacher.hold()
        for _ in range(10):
            start = time.monotonic()
            assert server.classify(texts=[EASY] * 40)[0] == 200
            assert time.monotonic() - start < 1
        assert server.count("potstill_audit_total", outcome="dropped") >= 100  # beyond what may wait


def test_a_killed_server_has_kept_what_it_wrote_and_the_next_goes_on(bundle, tmp_path):
    (tmp_path / "audit.jsonl").touch(0o600)
    for n in (1, 2):
        with StandIn(tmp_path / "teacher.sock", LABELS), audited(bundle, tmp_path, config={"processes": n}) as server:
            before = len(read_audit(tmp_path / "audit.jsonl").records)
            server.classify(texts=[EASY] * 20)
            wait_until(lambda before=before: len(read_audit(tmp_path / "audit.jsonl").records) >= before + 10, "texts are kept")
            server.stop(signal.SIGKILL)
    assert read_audit(tmp_path / "audit.jsonl").n_damaged == 0


def test_a_full_file_takes_no_more_and_says_so_once(bundle, tmp_path):
    with StandIn(tmp_path / "teacher.sock", LABELS), audited(bundle, tmp_path, max_bytes=1500) as server:
        server.classify(texts=[EASY] * 20)
        wait_until(lambda: drawn(server) == 20, "all texts are done with")
        assert server.count("potstill_audit_total", outcome="full") > 10
        server.stop()
        assert server.process.stderr.read().decode().count("the audit file is full") == 1
    assert (tmp_path / "audit.jsonl").stat().st_size <= 1500

"""A real server, and in the place of the teacher a process that answers, dies, stands still or talks nonsense."""

from __future__ import annotations

import signal
import time

import pytest
from support.serving import LinkedServer, wait_until
from support.teachers.fallback_stand_in import FIRST, MANNERS, StandIn
from support.tiny_bundle import LABELS, write_bundle

from potstill.contract.questions.decision import Conformal
from potstill.serve.http.config import TeacherLink
from potstill.serve.http.teacher.consulting import MINUTE_S, TeacherBudget

pytestmark = pytest.mark.slow

EASY, HARD = "rise", "fall"  # the bundle answers `flat`, and abstains from `down`
GOOD = {"well", "problem", "too long", "never", "half"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    conformal = Conformal(coverage=0.8, quantile=0.9, n=20, source="gold")
    return write_bundle(tmp_path_factory.mktemp("bundles") / "b", thresholds={"down": 0.45}, conformal=conformal)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "teacher.sock"


def linked(bundle, path, config=None, **link):
    return LinkedServer(bundle, socket=str(path), labels=LABELS, target=False, config=config, **link)


def connected(server):
    """Wait until the server has found the teacher, by asking until it was."""
    wait_until(lambda: server.classify(text=HARD)[1]["answer"].get("teacher") != "dead", "the teacher is found")


def test_the_teacher_answers_hard_texts_and_only_those(bundle, path):
    with StandIn(path, LABELS) as teacher, linked(bundle, path) as server:
        easy = server.classify(text=EASY)[1]["answer"]
        assert (easy["answered_by"], easy["label"], easy["abstain"]) == ("bundle", "flat", False) and "teacher" not in easy
        connected(server)
        while teacher.question()["text"] != HARD:
            pass
        status, body = server.classify(text=HARD, sets=True)
        answer = body["answer"]
        assert (status, answer["answered_by"], answer["label"], answer["abstain"]) == (200, "teacher", "up", False)
        assert answer["probs"]["up"] == pytest.approx(FIRST) and list(answer["probs"]) == LABELS
        assert answer["threshold"] == 0 and "teacher" not in answer
        assert answer["label_set"] == server.classify(text=HARD, sets=True)[1]["answer"]["label_set"] != []
        question = teacher.question()
        assert (question["text"], question["background"]) == (HARD, False)
        before = server.count("potstill_teacher_total", outcome="answered")
        for _ in range(3):
            server.classify(text=EASY)
        assert server.count("potstill_teacher_total", outcome="answered") == before
        dead = server.count("potstill_teacher_total", outcome="dead")  # before it was found
        # drift is seen in what the bundle says
        assert server.count("potstill_labels_total", bundle="tiny", label="down", abstain="true") == before + dead
        assert server.count("potstill_teacher_seconds_count") == before


def test_each_hard_text_of_a_batch_asks_alone(bundle, path):
    with StandIn(path, LABELS, "well", 0.05), linked(bundle, path) as server:
        connected(server)
        answers = server.classify(texts=[EASY, HARD, EASY, HARD, HARD])[1]["answers"]
        assert [one["answered_by"] for one in answers] == ["bundle", "teacher", "bundle", "teacher", "teacher"]


def test_the_compatible_protocols_keep_their_shape_and_give_the_teachers_answer(bundle, path):
    with StandIn(path, LABELS), linked(bundle, path) as server:
        connected(server)
        status, rows = server.post("/predict", {"inputs": HARD})
        assert status == 200 and rows[0] == {"score": pytest.approx(FIRST), "label": "up"} and len(rows) == len(LABELS)
        tensor = {"name": "text", "datatype": "BYTES", "shape": [2], "data": [EASY, HARD]}
        outputs = {one["name"]: one["data"] for one in server.post("/v2/models/tiny/infer", {"inputs": [tensor]})[1]["outputs"]}
        assert outputs["label"] == ["flat", "up"] and outputs["abstain"] == [False, False]
        assert outputs["probs"][3:] == pytest.approx([FIRST, 0.15, 0.15])


def test_without_a_teacher_the_bundle_answers_marked_and_readiness_stays(bundle, path):
    with linked(bundle, path) as server:
        status, body = server.classify(text=HARD)
        assert status == 200
        assert (body["answer"]["answered_by"], body["answer"]["teacher"], body["answer"]["abstain"]) == ("bundle", "dead", True)
        assert server.ask("GET", "/readyz")[0] == 200
        assert server.count("potstill_teacher_total", outcome="dead") == 1
        with StandIn(path, LABELS):
            connected(server)
            assert server.classify(text=HARD)[1]["answer"]["answered_by"] == "teacher"
        wait_until(lambda: server.classify(text=HARD)[1]["answer"].get("teacher") == "dead", "the teacher's death is noticed")
        with StandIn(path, LABELS):
            connected(server)
            assert server.classify(text=HARD)[1]["answer"]["answered_by"] == "teacher"


@pytest.mark.parametrize("manner", sorted(set(MANNERS) - GOOD))
def test_nonsense_is_refused_and_the_connection_opened_again(bundle, path, manner):
    with linked(bundle, path) as server:
        with StandIn(path, LABELS, manner):
            connected(server)
            answer = server.classify(text=HARD)[1]["answer"]
            # two replies to one question: the first is right, and the second ends the connection
            assert answer.get("teacher") in ({None, "dead"} if manner == "twice" else {"nonsense", "dead"})
            counted = server.count("potstill_teacher_total", outcome="nonsense")
            assert counted >= 1 or manner == "twice"
            assert server.classify(text=EASY)[0] == 200
        with StandIn(path, LABELS):
            wait_until(lambda: server.classify(text=HARD)[1]["answer"]["answered_by"] == "teacher", "the next one is asked")


@pytest.mark.parametrize(
    ("manner", "mark"), [("problem", "failed"), ("too long", "too long"), ("never", "late"), ("half", "late or nonsense")]
)
def test_what_the_teacher_cannot_answer_is_marked(bundle, path, manner, mark):
    with StandIn(path, LABELS, manner), linked(bundle, path, wait_ms=50) as server:
        connected(server)
        assert server.classify(text=HARD)[1]["answer"]["teacher"] in mark.split(" or ")


@pytest.mark.parametrize("manner", ["no greeting", "other greeting"])
def test_a_teacher_that_does_not_greet_is_not_asked(bundle, path, manner):
    with StandIn(path, LABELS, manner), linked(bundle, path) as server:
        for _ in range(5):
            assert server.classify(text=HARD)[1]["answer"]["teacher"] == "dead"
            time.sleep(0.05)


def test_a_teacher_of_other_labels_is_not_asked(bundle, path):
    with StandIn(path, ["up", "down"]), linked(bundle, path) as server:
        time.sleep(0.3)
        assert server.classify(text=HARD)[1]["answer"]["teacher"] == "dead"


def test_a_bundle_of_another_task_is_served_without_the_teacher(bundle, path, tmp_path):
    pairs = write_bundle(tmp_path / "pairs", target=True, thresholds=dict.fromkeys(LABELS), name="pairs")
    with StandIn(path, LABELS), LinkedServer(bundle, pairs, socket=str(path), labels=LABELS, target=False) as server:
        connected(server)
        answer = server.post("/bundles/pairs/classify", {"text": "rise", "target": "a"})[1]["answer"]
        assert answer["abstain"] and answer["answered_by"] == "bundle" and "teacher" not in answer


def test_a_held_teacher_costs_its_time_once_and_then_nothing(bundle, path):
    with StandIn(path, LABELS) as teacher, linked(bundle, path, wait_ms=300, concurrency=2) as server:
        connected(server)
        teacher.hold()
        found = []
        for _ in range(4):
            start = time.monotonic()
            found.append((server.classify(text=HARD)[1]["answer"]["teacher"], time.monotonic() - start))
        assert [mark for mark, _ in found] == ["late", "late", "busy", "busy"]
        assert all(seconds > 0.25 for _, seconds in found[:2]) and min(seconds for _, seconds in found[2:]) < 0.2
        teacher.process.send_signal(signal.SIGCONT)
        wait_until(lambda: server.classify(text=HARD)[1]["answer"]["answered_by"] == "teacher", "it is asked again")


def test_no_request_waits_beyond_its_own_deadline(bundle, path):
    with StandIn(path, LABELS, "never"), linked(bundle, path, wait_ms=5000, concurrency=50) as server:
        connected(server)
        for timeout_ms in (60, 200):
            start = time.monotonic()
            status, body = server.classify(text=HARD, timeout_ms=timeout_ms)
            assert (status, body["answer"]["teacher"]) == (200, "late")
            assert time.monotonic() - start < 4 * timeout_ms / 1e3  # a busy machine adds its own
        assert server.classify(text=HARD, timeout_ms=20)[1]["answer"]["teacher"] == "late"


def test_the_budget_bounds_the_questions(bundle, path):
    with StandIn(path, LABELS), linked(bundle, path, per_minute=3) as server:
        connected(server)
        marks = [one.get("teacher") for one in server.classify(texts=[HARD] * 4)[1]["answers"]]
        assert marks.count("budget") == 2 and marks.count(None) == 2  # the connection was found with one


def test_a_budget_holds_in_every_minute():
    budget = TeacherBudget(2)
    assert [budget.take(now) for now in (0.0, 59.0, 59.5)] == [True, True, False]
    assert [budget.take(now) for now in (MINUTE_S, MINUTE_S + 1, MINUTE_S + 59)] == [True, False, True]
    assert not TeacherBudget(0).take(0.0)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_the_parts_of_all_processes_are_the_whole(n):
    whole = TeacherLink("s", LABELS, False, concurrency=8, per_minute=10)
    parts = [whole.part(index, n) for index in range(n)]
    assert sum(one.per_minute for one in parts) == 10 and sum(one.concurrency for one in parts) == 8
    assert all(one.concurrency >= 1 for one in (TeacherLink("s", LABELS, False, concurrency=2).part(i, 7) for i in range(7)))


def test_every_process_asks_the_one_teacher(bundle, path):
    with StandIn(path, LABELS), linked(bundle, path, config={"processes": 2}) as server:
        for _ in range(4):
            connected(server)
        wait_until(
            lambda: {server.classify(text=HARD)[1]["answer"]["answered_by"] for _ in range(6)} == {"teacher"}, "both are connected"
        )

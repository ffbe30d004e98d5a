"""`potstill serve --teacher`: the teacher's own process, in front of a real HTTP server that decides, and one with the real model."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from support.serving import ServerProcess, wait_until
from support.teachers.model_servers import decisions_server
from support.tiny_bundle import LABELS, write_bundle

from potstill.contract.fallback import wire
from potstill.contract.fallback.audit import read_audit
from potstill.contract.task import load_task
from potstill.contract.texts import Text, write_texts
from potstill.labeler.config import LabelConfig
from potstill.labeler.teachers.config import TeacherConfig
from potstill.serve.http.telemetry.logs_and_traces import ServerLog
from potstill.workflows.fallback import keeper as keeping
from potstill.workflows.fallback.config import FallbackConfig, ProcessConfig
from potstill.workflows.fallback.keeper import TeacherKeeper
from potstill.workflows.fallback.session import TeacherSession
from potstill.workflows.labelling import label

pytestmark = pytest.mark.slow

EASY, HARD = "rise", "fall"
LABEL = """
[[labels]]
name = "{0}"
meaning = "the price goes {0}"
[[examples]]
text = "it will go {0}"
rationale = "It says so."
label = "{0}"
"""
TASK = 'format = 1\nname = "moves"\nquestion = "Where does the price go?"\nguideline = ""\n' + "".join(map(LABEL.format, LABELS))


@pytest.fixture
def folder(tmp_path):
    """A task, and a bundle that abstains from `fall`."""
    (tmp_path / "task.toml").write_text(TASK, encoding="utf-8")
    write_bundle(tmp_path / "bundle", thresholds={"down": 0.45})
    return tmp_path


def decide(text, options):
    """Sure of the label whose clue the text holds."""
    clue = {"rise": "up", "stay": "flat", "fall": "down"}
    wanted = next((name for word, name in clue.items() if word in text), None)
    if wanted not in options:  # as when it is found out how the server can be asked
        return [1 / len(options)] * len(options)
    return [0.8 if option == wanted else 0.2 / (len(options) - 1) for option in options]


def arguments(folder, teacher, *more):
    return [folder / "bundle", "--teacher", teacher, "--task", folder / "task.toml", *more]


def answered_by(server):
    return server.classify(text=HARD)[1]["answer"]["answered_by"]


def children(pid):
    """Process ids of a process's children."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found


def test_a_teacher_behind_an_address_answers_and_an_audit_keeps_both_answers(folder, scripted_server, console):
    teacher = scripted_server(decisions_server(decide))
    audit = folder / "audit.jsonl"
    options = arguments(folder, teacher.url, "--teacher-api", "decisions", "--audit", "1", "--audit-to", audit)
    with ServerProcess(*options) as server:
        wait_until(lambda: answered_by(server) == "teacher", "the teacher answers")
        answer = server.classify(text=HARD)[1]["answer"]
        assert answer["label"] == "down" and answer["probs"]["down"] > 0.7
        assert server.classify(text=EASY)[1]["answer"]["answered_by"] == "bundle"
        wait_until(lambda: EASY in [one.text for one in read_audit(audit).records], "the easy text is in the audit")
        assert server.count("potstill_audit_total", outcome="stored") >= 2
        (child,) = children(server.process.pid)
        assert os.getpriority(os.PRIO_PROCESS, child) == 19
        assert server.stop() == 0
        assert children(os.getpid()) == [] or child not in children(os.getpid())
    assert audit.stat().st_mode & 0o777 == 0o600
    records = {one.text: one for one in read_audit(audit).records}
    easy = records[EASY]
    assert (easy.label, easy.teacher_label, easy.abstain, easy.teacher) == ("flat", "up", False, "luna")
    assert records[HARD].abstain and records[HARD].teacher_label == "down"
    done = subprocess.run(
        [*console, "audit", audit, "--bundle", folder / "bundle", "--hard", folder / "hard.jsonl"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "held against nothing" in done.stdout, done.stderr
    assert {json.loads(line)["text"] for line in (folder / "hard.jsonl").read_text().splitlines()} == {EASY, HARD}


def test_killing_the_teacher_under_load_loses_no_request(folder, scripted_server):
    teacher = scripted_server(decisions_server(decide))
    found, over = [], threading.Event()
    with ServerProcess(*arguments(folder, teacher.url, "--teacher-api", "decisions")) as server:
        wait_until(lambda: answered_by(server) == "teacher", "the teacher answers")

        def ask(text):
            connection = server.connect()
            body = json.dumps({"text": text}).encode()
            while not over.is_set():
                start = time.monotonic()
                connection.request("POST", "/classify", body)
                reply = connection.getresponse()
                value = json.loads(reply.read())
                found.append((text, reply.status, value.get("answer", {}).get("answered_by"), time.monotonic() - start))
                time.sleep(0.005)
            connection.close()

        threads = [threading.Thread(target=ask, args=[text]) for text in (EASY, HARD, HARD, EASY)]
        for thread in threads:
            thread.start()
        for _ in range(2):
            time.sleep(0.3)
            (child,) = children(server.process.pid)
            os.kill(child, signal.SIGKILL)
            n = len(found)
            wait_until(lambda n=n: any(by == "bundle" for text, _, by, _ in found[n:] if text == HARD), "the bundle answers")
            n = len(found)
            wait_until(lambda n=n: any(by == "teacher" for *_, by, _ in found[n:]), "a new teacher answers")
        over.set()
        for thread in threads:
            thread.join()
        log = server.stop(), server.process.stderr.read().decode()
    assert {status for _, status, _, _ in found} == {200}
    assert max(seconds for text, _, _, seconds in found if text == EASY) < 1.0
    assert log[0] == 0 and log[1].count("the teacher's process ended with -9; a new one starts in") == 2


def test_a_teacher_that_holds_too_much_memory_is_replaced_and_the_bundle_answers_meanwhile(folder, scripted_server):
    script, huge = decisions_server(decide), threading.Event()

    def growing(path, body):
        if huge.is_set() and path.endswith("/decisions"):
            huge.clear()
            return 200, {"Content-Length": "1000000000"}, b"x" * 400_000_000  # the rest never comes
        return script(path, body)

    teacher = scripted_server(growing)
    options = ("--teacher-api", "decisions", "--teacher-memory-mb", "350")
    with ServerProcess(*arguments(folder, teacher.url, *options)) as server:
        wait_until(lambda: answered_by(server) == "teacher", "the teacher answers")
        (child,) = children(server.process.pid)
        huge.set()
        answer = server.classify(text=HARD)[1]["answer"]
        assert answer["answered_by"] == "bundle" and answer["teacher"] in ("late", "dead")
        wait_until(lambda: child not in children(server.process.pid), "the process is killed")
        line = server.process.stderr.readline().decode()
        assert re.fullmatch(r"the teacher's process holds \d+ MB, where 350 MB are allowed, and is killed\n", line)
        assert b"a new one starts in 1 s, until then the bundle answers" in server.process.stderr.readline()
        wait_until(lambda: answered_by(server) == "teacher", "a new teacher answers")
        assert server.stop() == 0


def test_a_model_that_does_not_fit_into_what_it_may_hold_is_one_line(folder, smollm2, console):
    command = [*console, "serve", *map(str, arguments(folder, smollm2, "--teacher-memory-mb", "30")), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    *_, said, error = done.stderr.splitlines()
    assert done.returncode == 1 and said.endswith("MB, where 30 MB are allowed, and is killed")
    assert error == "potstill: the teacher behind the server could not be opened; the reason is above"


def test_a_server_elsewhere_that_is_not_there_yet_is_waited_for(folder, scripted_server, tmp_path):
    with ServerProcess(*arguments(folder, "http://127.0.0.1:9/v1")) as server:
        answer = server.classify(text=HARD)[1]["answer"]
        assert (answer["answered_by"], answer["teacher"]) == ("bundle", "dead")
        assert server.ask("GET", "/readyz")[0] == 200
        assert server.stop() == 0


def test_the_teacher_ends_with_a_server_that_is_killed(folder, scripted_server):
    teacher = scripted_server(decisions_server(decide))
    with ServerProcess(*arguments(folder, teacher.url, "--teacher-api", "decisions")) as server:
        wait_until(lambda: answered_by(server) == "teacher", "the teacher answers")
        (child,) = children(server.process.pid)
        settings = [part for part in Path("/tmp").glob("potstill-teacher-*") if (part / "teacher.sock").exists()]
        server.stop(signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{child}").exists(), "the teacher's process ends")
    assert any(not part.exists() for part in settings)


def test_every_process_of_a_server_asks_the_one_teacher(folder, scripted_server):
    teacher = scripted_server(decisions_server(decide))
    with ServerProcess(*arguments(folder, teacher.url, "--teacher-api", "decisions", "--processes", "2")) as server:
        wait_until(lambda: {answered_by(server) for _ in range(6)} == {"teacher"}, "both ask the teacher")
        assert len(children(server.process.pid)) == 3
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--teacher", "x"], "--teacher is given without --task; name the task.toml that the bundle was made for"),
        (["--task", "task.toml"], "--task is given without --teacher; name a teacher"),
        (["--audit", "0.1", "--audit-to", "a"], "--audit needs a teacher to compare with"),
        (["--teacher", "x", "--task", "task.toml", "--audit", "0.1"], "--audit is given alone; add --audit-to FILE: texts are private"),
        (["--teacher", "x", "--task", "task.toml", "--audit-to", "a"], "--audit-to is given alone; add --audit SHARE, such as 0.02"),
        (["--teacher", "no-such-model", "--task", "task.toml"], "no-such-model"),
        (["--teacher", "x", "--task", "other.toml"], "other.toml: labels: are up, side, down without a target; the bundles answer up, flat, down"),
        (["--teacher", "x", "--task", "task.toml", "--audit", "1", "--audit-to", "open"], "open: others may read it, and an audit holds texts"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_said_in_one_line(folder, console, options, message):
    (folder / "other.toml").write_text(TASK.replace('"flat"', '"side"'), encoding="utf-8")
    (folder / "open").touch(0o644)
    command = [*console, "serve", "bundle", "--port", "0", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr, done.stderr


def settings(folder, url, **changes):
    pool = [Text("the price will rise"), Text("fall"), Text("stay")]
    teacher = FallbackConfig(url, api="decisions")
    return ProcessConfig("", -1, teacher, load_task(folder / "task.toml"), pool, None, 2, **changes)


def test_a_process_that_stands_still_is_replaced(folder, scripted_server, monkeypatch):
    monkeypatch.setattr(keeping, "HUNG_S", 2.0)
    teacher, others = scripted_server(decisions_server(decide)), children(os.getpid())  # of earlier tests

    def own():
        return [child for child in children(os.getpid()) if child not in others]

    with TeacherKeeper(settings(folder, teacher.url), ServerLog()) as keeper:
        wait_until(lambda: Path(keeper.socket).exists(), "the teacher listens")
        (child,) = own()
        os.kill(child, signal.SIGSTOP)
        wait_until(lambda: child not in own(), "the process is killed")
        wait_until(lambda: len(own()) == 1, "another one starts")
        os.kill(child := own()[0], 0)
    assert not Path(keeper.socket).parent.exists() and not Path(f"/proc/{child}").exists()


def test_texts_of_requests_come_before_the_background_and_late_ones_are_not_asked(folder, scripted_server):
    asked, go_on = [], threading.Event()

    def slow(text, options):
        asked.append(text.rpartition(": ")[2])
        if asked[-1] == "first":
            go_on.wait(30)
        return decide(text, options)

    teacher = scripted_server(decisions_server(slow))
    config = msgspec.structs.replace(settings(folder, teacher.url), concurrency=1)
    with TeacherKeeper(config, ServerLog()) as keeper, socket.socket(socket.AF_UNIX) as link:
        wait_until(lambda: link.connect_ex(keeper.socket) == 0, "the teacher listens")
        stream = link.makefile("rb")

        def send(number, text, until_s=1e9, background=False):
            link.sendall(wire.encode(wire.TeacherQuestion(id=number, text=text, until_s=until_s, background=background)))

        def receive():
            return stream.read(wire.length(stream.read(4)))

        assert wire.read_greeting(receive()).labels == LABELS
        send(1, "first")
        wait_until(lambda: "first" in asked, "the teacher is busy")
        send(2, "background", background=True)
        send(3, "over", until_s=time.monotonic() - 1)
        send(4, "fall")
        for number in range(5, 5 + 300):
            send(number, "more", until_s=0)
        go_on.set()
        replies = [wire.read_reply(receive(), frozenset(LABELS)) for _ in range(304)]
        stream.close()
    assert asked[asked.index("first") :] == ["first", "fall", "background"]
    by_id = {one.id: one for one in replies}
    assert by_id[3].problem == "late" and by_id[4].probs["down"] > 0.7 and by_id[1].probs is not None
    assert {one.problem for one in replies} == {"", "late", "busy"}


def test_the_real_teacher_says_of_single_texts_what_a_labelling_run_says(folder, smollm2):
    """On the texts with which it was calibrated: the correction is then the run's own."""
    words = [
        "price will rise",
        "it will fall",
        "stay here",
        "who knows",
        "up and away",
        "down we go",
        "nothing moves",
        "buy",
        "sell",
    ]
    texts = [Text(word, f"t{i}") for i, word in enumerate(words)]
    (folder / "texts.jsonl").write_bytes(write_texts(texts))
    config = LabelConfig(mode="direct", n_paths=2, n_variants=2)
    report = label(
        folder / "task.toml", folder / "texts.jsonl", folder / "out", config, teacher=TeacherConfig(str(smollm2), threads=2)
    )
    expected = {row.id: [row.probs[name] for name in LABELS] for row in report.rows}
    session = TeacherSession.open(
        FallbackConfig(str(smollm2), paths=2, threads=2), load_task(folder / "task.toml"), 1, lambda _: None
    )
    try:
        session.calibrate(texts, None)
        found = dict(session.answers(texts))
        (alone,) = session.answers(texts[:1])
    finally:
        session.close()
    for index, text in enumerate(texts):
        np.testing.assert_allclose(found[index], expected[text.id], atol=0.05)  # batches of other sizes round in other ways
        assert found[index].sum() == pytest.approx(1)
    np.testing.assert_allclose(alone[1], found[0], atol=0.05)


def test_the_real_teacher_answers_behind_a_server(folder, smollm2):
    with ServerProcess(*arguments(folder, smollm2, "--teacher-wait-ms", "30000", "--timeout-ms", "30000")) as server:
        wait_until(lambda: answered_by(server) == "teacher", "the teacher answers")
        answers = server.classify(texts=[EASY, HARD, HARD])[1]["answers"]
        assert [one["answered_by"] for one in answers] == ["bundle", "teacher", "teacher"]
        assert sum(answers[1]["probs"].values()) == pytest.approx(1)
        assert server.stop() == 0

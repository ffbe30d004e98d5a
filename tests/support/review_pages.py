"""A label store with made-up paths, and `potstill review` over it in a process of its own."""

import http.client
import math
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

from potstill.contract.questions.questionnaire import Questionnaire, load_any_task
from potstill.contract.texts import Text
from potstill.labeler.store.database import LabelStore, RunSettings
from potstill.labeler.store.people import Journal
from potstill.labeler.teacher import TeacherPath, path_seed

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60
LEADING = 0.7  # probability of a path's own label


def write_store(path, task_file, texts, *, n_paths=4, seed=0):
    """A store of those texts, labelled for the task by a teacher that says one thing mostly; the same seed gives the same paths."""
    task, rng = load_any_task(task_file), random.Random(seed)
    asks = [(ask.key, ask.question.kind, ask.task) for ask in task.asks()] if isinstance(task, Questionnaire) else [("", "", task)]
    with LabelStore.create(path) as store:
        store.add_texts(texts)
        for key, kind, alone in asks:
            labels = alone.label_names
            owners = [i for i, label in enumerate(alone.labels) for _ in label.spellings]
            words = [word for label in alone.labels for word in label.spellings]
            settings = RunSettings(
                task_digest=task.digest, prompt_digest=f"p{key}", labels=labels, words=words, word_labels=owners, teacher="table", teacher_digest="d" * 64,
                source_digest="d", build="b", mode="cot", n_variants=1, temperature=0.5, max_rationale_tokens=40, seed=0, question=key, kind=kind,
                values=[float(i) for i in range(1, len(labels) + 1)] if kind == "degree" else [],
            )  # fmt: skip
            run = store.begin_run(settings)
            store.add(run, [one for text in texts for one in _paths(text, labels, owners, n_paths, rng)])
    return path


def _paths(text, labels, owners, n_paths, rng):
    """Paths of one text; three in four for one label."""
    first = rng.randrange(len(labels))
    for number in range(n_paths):
        label = first if rng.random() < 0.75 else rng.randrange(len(labels))
        shares = [LEADING / owners.count(o) if o == label else (1 - LEADING) / (len(owners) - owners.count(label)) for o in owners]
        rationale = f"It speaks for {labels[label]}, says path {number}."
        yield TeacherPath(text.id, number, 0, path_seed(0, text.id, number), rationale, tuple(map(math.log, shares)), 5, 7)


def some_texts(n, target=None):
    """Different texts with short ids."""
    return [Text(f"text number {i} says buy", f"t{i}", target) for i in range(n)]


class ReviewProcess:
    """`potstill review` with these arguments; a `with` block ends it."""

    def __init__(self, store, task, *args, people=("ann",)):
        named = [word for person in people for word in ("--person", person)]
        command = [sys.executable, "-m", "potstill", "review", str(store), "--task", str(task), *named, *map(str, args)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT, env=dict(os.environ))
        self.store, self.people, self.lines = Path(store), people, []
        self.addresses = self.read_addresses()
        first = next(iter(self.addresses.values()), "http://127.0.0.1:0/")
        self.port = int(re.search(r":(\d+)/", first)[1])

    def read_addresses(self):
        """The address of everybody, as they are printed; none if the process ends before."""
        found = {}
        while len(found) < len(self.people):
            line = self.process.stderr.readline().decode()
            if not line:
                break
            self.lines.append(line)
            if " http://" in line and "/?token=" in line:
                person, _, address = line.strip().rpartition(": http")
                found[person] = "http" + address
        return found

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        self.process.stderr.close()

    def stop(self, sig=signal.SIGTERM):
        """Send a signal; returns the exit code."""
        self.process.send_signal(sig)
        return self.process.wait(PATIENCE_S)

    def visitor(self, person=None):
        """Somebody who has come in with a cookie."""
        return Visitor(self.port, self.addresses[person or self.people[0]])


class Visitor:
    """A client that keeps its cookie, as a browser does; each request has a connection of its own."""

    def __init__(self, port, address=None):
        self.port, self.cookie = port, None
        if address is not None:
            status, headers, _ = self.ask("GET", "/" + address.partition("/?")[2].join(["?", ""]))
            assert status == 303, status
            self.cookie = headers["set-cookie"].partition(";")[0]

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, body) of one request."""
        own = {"Cookie": self.cookie} if self.cookie else {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, own | (headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        finally:
            connection.close()

    def get(self, path):
        """The body of a page that is there."""
        status, _, body = self.ask("GET", path)
        assert status == 200, (status, body)
        return body

    def post(self, path, fields, **headers):
        """(status, headers, body) of a form sent from our own page."""
        own = {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"http://127.0.0.1:{self.port}"}
        return self.ask("POST", path, urlencode(fields, doseq=True), own | headers)

    def shown(self, path="/label"):
        """The hidden fields of the page's form: id, entry, mode, ..."""
        return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', self.get(path)))

    def label(self, answer, path="/label", **fields):
        """Label the text that is shown; returns its id."""
        shown = self.shown(path)
        answers = answer if isinstance(answer, dict) else {"answer.": answer}
        status, _, body = self.post("/label", shown | answers | fields)
        assert status == 303, (status, body)
        return shown["id"]


def journal_rows(store):
    """Every row of a store's journal."""
    with Journal.open(Path(store)) as journal:
        return journal.since()

"""A task, texts, a teacher that answers from a table, and made-up paths of a run."""

from collections.abc import Iterator, Sequence

import msgspec

from potstill.contract.task import Example, Label, Task
from potstill.contract.texts import Text
from potstill.labeler.run.progress import RunProgress
from potstill.labeler.store.database import RunSettings
from potstill.labeler.teacher import AnswerSpec, Enough, Identity, PathRequest, TeacherPath, TooLong, never, path_seed

TASK = Task(
    format=1,
    name="t",
    question="Up or down?",
    guideline="",
    labels=[Label(name="up", meaning="u", words=["positive", "rising"]), Label(name="down", meaning="d", words=["negative"])],
    examples=[
        Example(text="I buy", rationale="The author buys.", label="up"),
        Example(text="I sell", rationale="Sold.", label="down"),
    ],
)


TEXTS = [Text(f"text number {i}", str(i)) for i in range(6)]


class Table:
    """A teacher that answers from a rule: the rules under test are about paths, not about llama.cpp."""

    def __init__(self, stop_after: int = 10**9, error: BaseException | None = None, digest: str = "d") -> None:
        self.stop_after, self.error, self.asked, self._digest = stop_after, error, [], digest

    @property
    def identity(self) -> Identity:
        return Identity("table", self._digest, self._digest, "build 1")

    def answer(
        self, prefix: str, variant: int, requests: Sequence[PathRequest], spec: AnswerSpec, run_seed: int, enough: Enough = never
    ) -> Iterator[TeacherPath | TooLong]:
        for request in requests:
            if request.text_id == "long":
                yield TooLong("long", 99, 9)
                continue
            for number in request.paths:
                if len(self.asked) == self.stop_after and self.error:
                    raise self.error
                self.asked.append((request.text_id, number, variant))
                yield TeacherPath(
                    request.text_id, number, variant, path_seed(run_seed, request.text_id, number), "r", (-1.0, -2.0, -3.0), 3, 1
                )

    def close(self) -> None:
        pass


# Stored paths, and a run that is going on


SETTINGS = RunSettings(
    task_digest="t", prompt_digest="p", labels=["up", "down"], words=["up", "down"], word_labels=[0, 1], teacher="m", teacher_digest="d",
    source_digest="d", build="b", mode="cot", n_variants=1, temperature=0.5, max_rationale_tokens=40, seed=0,
)  # fmt: skip


def path(text_id="a", number=0):
    return TeacherPath(text_id, number, 0, 2**32 - 1, "because 😀", (-0.5, -1.25e-9), 12, 7)


def running(n: int = 4, labels: Sequence[str] = ("up", "down")) -> RunProgress:
    made = RunProgress(msgspec.structs.replace(SETTINGS, labels=list(labels)), {"0": labels[0]}, 2)
    made.total = 8
    for i in range(n):
        made.add(TeacherPath(str(i % 2), i, 0, 0, "r", (-0.1, -3.0), 1, 1))
    return made

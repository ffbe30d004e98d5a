"""Settings of a run, paths of it, and a run that is going on."""

from potstill.labeler.run.progress import RunProgress
from potstill.labeler.store.label_store import RunSettings
from potstill.labeler.teacher import TeacherPath

SETTINGS = RunSettings(
    task_digest="t", prompt_digest="p", labels=["up", "down"], words=["up", "down"], word_labels=[0, 1], teacher="m", teacher_digest="d",
    source_digest="d", build="b", mode="cot", n_variants=1, temperature=0.5, max_rationale_tokens=40, seed=0,
)  # fmt: skip


def path(text_id="a", number=0):
    return TeacherPath(text_id, number, 0, 2**32 - 1, "because 😀", (-0.5, -1.25e-9), 12, 7)


def live(n: int = 4) -> RunProgress:
    made = RunProgress(SETTINGS, {"0": "up"}, 2)
    made.total = 8
    for i in range(n):
        made.add(TeacherPath(str(i % 2), i, 0, 0, "r", (-0.1, -3.0), 1, 1))
    return made

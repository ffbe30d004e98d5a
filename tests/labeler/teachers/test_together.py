"""Several questions about a text in one go say what each of them says alone; models of every kind of memory."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from potstill.labeler.engine.llama import LlamaEngine
from potstill.labeler.teacher import AnswerSpec, Identity, PathRequest, QuestionRequests, TeacherPath
from potstill.labeler.teachers.local import LocalConfig, LocalTeacher

pytestmark = pytest.mark.slow

PREFIX = "Posts and what they say:\n\nPost: I bought.\nStance: positive\nSure: high\n\n"
TEXTS = [
    "Loaded up on calls before the print.",
    "My uncle works there. It is late!",
    "up",
    "The chart looks fine to me; volume is up.",
]
FIELDS = {
    "stance": ("Stance", ("positive", "negative", "going down the drain")),
    "asks": ("Asks", ("yes", "no")),
    "sure": ("Sure", ("low", "middle", "high")),
}
STATED = {"n_threads": 2, "n_batch": 256, "n_live_paths": 24, "flash_attention": False}
TOLERANCE = {"atol": 0.01, "rtol": 2e-3}  # nats; batches of other sizes round differently


@pytest.fixture(params=["dense", "recurrent", "hybrid", "sliding"])
def engine(request: pytest.FixtureRequest, tiny_models):
    engine = LlamaEngine(tiny_models[request.param])
    yield engine
    engine.close()


def teacher(engine: LlamaEngine, **config: Any) -> LocalTeacher:
    return LocalTeacher(engine, Identity("tiny", "d", "d", engine.build()), LocalConfig(**(STATED | config)))


def asked(mode: str, n_paths: int = 1, texts: list[str] = TEXTS) -> list[QuestionRequests]:
    found = []
    for key, (field, words) in FIELDS.items():
        spec = AnswerSpec(mode, words, f"{field}, opinion:", f"{field}:", temperature=0.5, max_rationale_tokens=8)
        cue = spec.answer_cue if mode == "direct" else spec.rationale_cue
        requests = [PathRequest(str(i), f"Post: {text}\n{cue}", tuple(range(n_paths))) for i, text in enumerate(texts)]
        found.append(QuestionRequests(key, spec, requests))
    return found


def alone(opened: LocalTeacher, wanted: list[QuestionRequests]) -> list[TeacherPath]:
    return [replace(path, question=one.question) for one in wanted for path in opened.answer(PREFIX, 0, one.requests, one.spec, 0)]


def ordered(paths):
    return sorted(paths, key=lambda path: (path.question, path.text_id, path.path))


def assert_same(paths: list[TeacherPath], others: list[TeacherPath]) -> None:
    def names(found):
        return [(p.question, p.text_id, p.path, p.seed, p.rationale) for p in found]

    paths, others = ordered(paths), ordered(others)
    assert names(paths) == names(others)
    for path, other in zip(paths, others, strict=True):
        np.testing.assert_allclose(path.word_logprobs, other.word_logprobs, **TOLERANCE)


@pytest.mark.parametrize("parallel", [24, 1])
@pytest.mark.parametrize(("mode", "n_paths"), [("direct", 1), ("cot", 3)])
def test_questions_that_share_a_text_have_the_paths_that_each_has_alone(engine, mode, n_paths, parallel):
    opened, wanted = teacher(engine, n_live_paths=parallel), asked(mode, n_paths)
    together = list(opened.answer_together(PREFIX, 0, wanted, 0))
    assert len(together) == len(TEXTS) * len(FIELDS) * n_paths
    assert_same(together, alone(opened, wanted))

"""Terms are proposed where people say otherwise than the teacher, and not again once they are refused."""

import pytest
from support.review_pages import ReviewProcess, write_store
from support.small_task import SMALL_TASK

from potstill.contract.texts import Text

pytestmark = pytest.mark.slow


def test_a_term_that_goes_with_mistakes_is_proposed_until_it_is_refused_or_explained(tmp_path):
    (tmp_path / "task.toml").write_text(SMALL_TASK)
    fillers = ["alpha", "beta", "gamma", "delta", "omega"]
    texts = [Text(f"{fillers[i % 5]} word{i}" + (" wheel strategy" if i % 8 == 0 else ""), f"t{i}") for i in range(64)]
    write_store(tmp_path / "labels.db", tmp_path / "task.toml", texts)
    with ReviewProcess(tmp_path / "labels.db", tmp_path / "task.toml") as server:
        ann = server.visitor()
        assert "gets wrong" not in ann.get("/steer")
        for _ in texts:
            page = ann.get("/label?id=" + ann.shown()["id"] + "&reveal=1")
            said = page.partition('class="name best">')[2].partition("<")[0]
            ann.label({"up": "down", "down": "up"}[said] if "wheel" in page else said)
        page = ann.get("/steer")
        assert "wheel strategy" in page and "wrong in 8 of 8 texts" in page and "No term stands out" not in page
        assert ann.post("/steer/refuse", {"term": "wheel strategy"})[0] == 303
        assert "wheel strategy" not in ann.get("/steer")

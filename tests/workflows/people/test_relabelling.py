"""How a run was asked is told by its store: labelling goes on in the same run, or it is said why it cannot."""

import msgspec
import pytest
from support.teachers.table_teacher import SETTINGS, TASK, TEXTS, Table

from potstill.contract.errors import UserError
from potstill.labeler.config import LabelConfig
from potstill.labeler.run.label import label
from potstill.labeler.store.database import LabelStore
from potstill.workflows.people.relabelling import run_config

pytestmark = pytest.mark.slow

CONFIGS = [
    LabelConfig(mode="direct", n_paths=3),
    LabelConfig(mode="direct", n_paths=2, n_variants=5, guideline=False, examples="given"),
    LabelConfig(mode="cot", n_paths=4, seed=7, temperature=0.3, max_rationale_tokens=20),
    LabelConfig(mode="cot", n_paths=4, n_variants=2, bound=0.9),
    LabelConfig(mode="cascade", n_paths=2, n_direct=3, uncertain=0.5),
    LabelConfig(mode="direct", n_paths=3, deterministic=True),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.mode}-{config.n_paths}")
def test_a_run_goes_on_with_the_settings_that_its_store_tells(tmp_path, config):
    first = label(TASK, TEXTS, tmp_path / "labels.db", Table(), config)
    with LabelStore.read(tmp_path / "labels.db") as store:
        found = run_config(store, first.run)
    teacher = Table()
    again = label(TASK, TEXTS, tmp_path / "labels.db", teacher, found)
    assert again.run == first.run and found.n_paths == config.n_paths
    if config.mode != "cascade":  # which share is uncertain is not stored
        assert not teacher.asked


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"after": "x"}, "asked a second teacher"),
        ({"candidates": 10}, "asked about candidates"),
        ({"examples": "nearest"}, "chose worked examples by similarity"),
    ],
)
def test_what_the_store_does_not_tell_is_refused_with_what_to_do(tmp_path, changes, said):
    with LabelStore.create(tmp_path / "labels.db") as store:
        run = store.begin_run(msgspec.structs.replace(SETTINGS, **changes))
        with pytest.raises(UserError, match=rf"run 1 {said}; label the texts with the changed task by: potstill label --new-run"):
            run_config(store, run)


def test_carried_paths_are_those_of_the_other_run_and_nothing_is_carried_twice(tmp_path):
    report = label(TASK, TEXTS, tmp_path / "labels.db", Table(), CONFIGS[0])
    with LabelStore.create(tmp_path / "labels.db") as store:
        new = store.begin_run(msgspec.structs.replace(report.run.settings, task_digest="other"))
        for _ in range(2):
            store.carry(report.run, new, [text.id for text in TEXTS[:2]])
        kept = [path for path in store.paths(report.run) if path.text_id in {TEXTS[0].id, TEXTS[1].id}]
        assert list(store.paths(new)) == kept

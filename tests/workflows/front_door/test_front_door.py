"""`import potstill`: its names load nothing until they are used, take paths as strings, and their examples run."""

import ast
import doctest
import json
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from support.tiny_backbone import write_backbone
from support.toy_task import a_task

import potstill
from potstill.models.catalog import ModelFolder

pytestmark = pytest.mark.slow

CALLS = (
    "load_task",
    "label",
    "derive",
    "combine",
    "train",
    "distill",
    "evaluate",
    "export_bundle",
    "Classifier",
)  # in the order of the work
N_TEXTS, N_GOLD = 24, 9


def test_importing_loads_nothing_but_the_front_door(repository):
    code = "import sys; before = set(sys.modules); import potstill; print(*sorted(set(sys.modules) - before - set(sys.stdlib_module_names)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, timeout=60, check=True)
    ours = [name for name in done.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names]
    switch = ["potstill.contract", "potstill.contract.system", "potstill.contract.system.telemetry"]  # before any library loads
    assert ours == ["potstill", *switch]


def test_every_public_name_is_there_documented_and_listed():
    assert set(potstill.__all__) <= set(dir(potstill))
    for name in potstill.__all__:
        assert getattr(potstill, name).__doc__, name


def test_the_three_lists_of_names_agree(repository):
    """Type checkers read the imports, `import *` reads `__all__`, and the interpreter reads the table."""
    nodes = ast.walk(ast.parse((repository / "potstill" / "__init__.py").read_text()))
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module.startswith("potstill.")]
    found = {alias.asname or alias.name: (node.module, alias.name) for node in imports for alias in node.names}
    assert found.pop("telemetry") == ("potstill.contract.system", "telemetry")  # is used there
    assert found == potstill._PLACES
    assert potstill.__all__ == list(potstill._PLACES)


def test_packages_keep_their_names():
    from potstill import export, serve  # not the calls

    assert Path(export.__file__).name == Path(serve.__file__).name == "__init__.py"


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'potstill' has no attribute 'distill_all'$"):
        potstill.distill_all  # noqa: B018


def called_with_strings():
    """Every public call that takes paths, by name, with strings that lead nowhere."""
    from potstill.contract.project import load_project
    from potstill.contract.texts import read_texts
    from potstill.export.config import PackageConfig
    from potstill.export.layouts.package import package, sign_bundle
    from potstill.serve.bench.bundle import bench_bundle
    from potstill.serve.offline.adapt import adapt_bundle
    from potstill.serve.offline.cascade import cascade_bundle
    from potstill.serve.offline.predict import predict_file
    from potstill.serve.offline.shares import shares_of
    from potstill.trainer.calibrate_on_gold import ConfidenceConfig, calibrate_on_gold
    from potstill.trainer.evaluation import checkpoint_scores
    from potstill.trainer.sweep import sweep
    from potstill.workflows import evaluation, labelling, tuning
    from potstill.workflows.labels import rules, soft_labels
    from potstill.workflows.overview import reporting
    from potstill.workflows.overview.status import status_of

    wanted = ConfidenceConfig(precision=0.9)
    return {
        "load_task": lambda: potstill.load_task("no.toml"),
        "read_texts": lambda: read_texts("no.jsonl"),
        "load_project": lambda: load_project("no.toml"),
        "label": lambda: potstill.label("no.toml", "no.jsonl", "out"),
        "plan": lambda: potstill.plan("no.toml", "no.jsonl", potstill.PlanConfig(hours=1)),
        "label_forecast": lambda: labelling.label_forecast("no.toml", "no.jsonl"),
        "derive": lambda: potstill.derive("no.db", "soft.jsonl"),
        "combine": lambda: potstill.combine("no.toml", "no.db", "soft.jsonl"),
        "propose_rules": lambda: rules.propose_rules("no.toml", "no.db", "rules.json"),
        "accept_rules": lambda: rules.accept_rules("no.toml", "rules.json", []),
        "summarize": lambda: soft_labels.summarize("no.db"),
        "check": lambda: soft_labels.check("no.db"),
        "export_for_review": lambda: soft_labels.export_for_review("no.db", "review.json"),
        "tune_prompt": lambda: tuning.tune_prompt("no.toml", "no.jsonl", "out"),
        "distill": lambda: potstill.distill("no.toml", "no.parquet", "student"),
        "train": lambda: potstill.train("no.toml", "no.parquet", "student"),
        "train, task": lambda: potstill.train(a_task(), "no.parquet", "student"),
        "sweep": lambda: sweep(a_task(), "no.parquet", "student", potstill.TrainConfig(), []),
        "predict": lambda: checkpoint_scores.predict("no", []),
        "evaluate on texts": lambda: checkpoint_scores.evaluate("no", []),
        "evaluate": lambda: potstill.evaluate("no", "no.jsonl"),
        "calibrate on texts": lambda: calibrate_on_gold("no", [], wanted),
        "calibrate": lambda: evaluation.calibrate("no", "no.jsonl", wanted),
        "write_report": lambda: reporting.write_report("no", "no.jsonl", "report.html"),
        "export_bundle": lambda: potstill.export_bundle("no", "bundle"),
        "certify": lambda: potstill.certify("no", "no.jsonl"),
        "certify_bundle": lambda: potstill.certify_bundle("no", "no.jsonl"),
        "Classifier.open": lambda: potstill.Classifier.open("no"),
        "predict_file": lambda: predict_file("no", "no.jsonl"),
        "adapt_bundle": lambda: adapt_bundle("no", "no.jsonl", "out"),
        "shares_of": lambda: shares_of("no", "no.jsonl", "no.jsonl"),
        "status_of": lambda: status_of("no"),
        "cascade_bundle": lambda: cascade_bundle("no", "no", "no.jsonl", "out"),
        "package": lambda: package("no", "out", PackageConfig("docker")),
        "sign_bundle": lambda: sign_bundle("no", "key.pem"),
        "bench_bundle": lambda: bench_bundle("no"),
        "serve_bundles": lambda: potstill.serve_bundles(["no"], potstill.ServeConfig(port=0)),
        "run_project": lambda: potstill.run_project("no.toml"),
    }


@pytest.mark.parametrize("name", called_with_strings())
def test_a_path_may_be_a_string_and_one_that_leads_nowhere_is_an_error_for_people(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(potstill.UserError, match=r"\bno(\.\w+)?\b"):
        called_with_strings()[name]()
    assert not list(tmp_path.iterdir())


def test_a_path_of_verify_may_be_a_string(tmp_path):
    from potstill.serve.offline.verify import verify

    found = verify(str(tmp_path / "no"), str(tmp_path / "key.pem"))
    assert found.problems and all(problem.startswith(f"{tmp_path}/no") for problem in found.problems)


@pytest.fixture(scope="module")
def folder(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example, cut to a few texts."""
    folder = tmp_path_factory.mktemp("walk")
    example = repository / "examples" / "market_stance"
    shutil.copy(example / "task.toml", folder)
    for name, n in (("texts.jsonl", N_TEXTS), ("gold.jsonl", N_GOLD)):
        lines = (example / name).read_text(encoding="utf-8").splitlines()[:n]
        (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return folder


def favourite(prompt: str, n_words: int) -> int:
    """A label word that depends on the text alone, which is the prompt's last block but for the cue."""
    return zlib.crc32(prompt.rsplit("\n\n", 1)[-1].encode()) % n_words


def test_the_examples_of_all_calls_walk_from_texts_to_answers(folder: Path, monkeypatch, ruled_teacher, tmp_path):
    """With a made-up teacher and a tiny backbone; test_pipeline.py takes the same way with the real ones, at the console."""
    n_words = sum(len(label.spellings) for label in potstill.load_task(folder / "task.toml").labels)
    teacher = ruled_teacher(lambda prompt, path: [-0.2 if i == favourite(prompt, n_words) else -5.0 for i in range(n_words)])
    monkeypatch.setattr("potstill.workflows.teacher.open_teacher", lambda name, **options: teacher)
    backbone = ModelFolder("all-minilm-l6-v2", write_backbone(tmp_path / "backbone"), "d" * 64)
    monkeypatch.setattr("potstill.trainer.students.start.find_backbone", lambda name: backbone)
    monkeypatch.chdir(folder)
    known = {"potstill": potstill}
    for name in CALLS:
        example = doctest.DocTestParser().get_doctest(getattr(potstill, name).__doc__, known, f"potstill.{name}", None, None)
        assert example.examples, f"the docstring of potstill.{name} has no example"
        report: list[str] = []
        result = doctest.DocTestRunner(verbose=False).run(example, out=report.append, clear_globs=False)
        assert result.failed == 0, "".join(report)
        known = example.globs
    rows = [json.loads(line) for line in Path("votes.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == N_TEXTS + N_GOLD

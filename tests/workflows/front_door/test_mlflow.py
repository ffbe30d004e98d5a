"""A bundle in MLflow: what its own pyfunc loader answers is what the bundle answers. Skipped where MLflow is not installed."""

import subprocess
import sys
from importlib.util import find_spec

import pandas as pd
import pytest
from support.tiny_bundle import some_heads, write_bundle

from potstill.contract.bundle import read_manifest
from potstill.contract.errors import FormatError
from potstill.serve.runtime.classifier import Classifier

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow is not here: pip install mlflow-skinny"),
    pytest.mark.filterwarnings("default"),  # MLflow's own
]
TEXTS = ["the price will rise!", "fall", "stay"]


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """MLflow keeps runs and models in the test's folder."""
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())


def answered(bundle, table, **options):
    import mlflow

    import potstill.mlflow

    with mlflow.start_run():
        info = potstill.mlflow.log_model(bundle, name="stance", **options)
    return mlflow.pyfunc.load_model(info.model_uri).predict(table), info


def test_a_logged_bundle_answers_a_table_as_the_bundle_does(tmp_path):
    bundle = write_bundle(tmp_path / "b", thresholds={"down": 0.99})
    found, info = answered(bundle, pd.DataFrame({"text": TEXTS}, index=[5, 6, 9]))
    with Classifier.open(bundle) as classifier:
        expected = classifier.classify(TEXTS)
    assert list(found.index) == [5, 6, 9]
    assert list(found["label"]) == [one.label for one in expected] and list(found["abstain"]) == [one.abstain for one in expected]
    for label in read_manifest(bundle).labels:
        assert list(found[f"probs.{label}"]) == [one.probs[label] for one in expected]
    assert [column.name for column in info.signature.outputs.inputs] == list(found.columns)


def test_a_target_is_a_column_that_must_be_there(tmp_path):
    import mlflow

    bundle = write_bundle(tmp_path / "b", target=True)
    table = pd.DataFrame({"text": TEXTS, "target": ["the price"] * 3})
    found, info = answered(bundle, table)
    with Classifier.open(bundle) as classifier:
        assert list(found["label"]) == [one.label for one in classifier.classify(TEXTS, ["the price"] * 3)]
    with pytest.raises(mlflow.exceptions.MlflowException, match="target"):
        mlflow.pyfunc.load_model(info.model_uri).predict(table[["text"]])


def test_several_questions_have_columns_of_their_own(tmp_path):
    bundle = write_bundle(tmp_path / "b", heads=some_heads())
    found, info = answered(bundle, pd.DataFrame({"text": TEXTS}))
    with Classifier.open(bundle) as classifier:
        expected = classifier.classify(TEXTS)
    assert list(found["move.label"]) == [one.questions["move"].label for one in expected]
    assert list(found["topics.tags"]) == [one.questions["topics"].tags for one in expected]
    assert list(found["sure.probs.high"]) == [one.questions["sure"].probs["high"] for one in expected]
    assert [column.name for column in info.signature.outputs.inputs] == list(found.columns)


def test_a_saved_model_answers_in_another_process_and_a_changed_one_is_refused(tmp_path, repository):
    import potstill.mlflow

    bundle = write_bundle(tmp_path / "b")
    potstill.mlflow.save_model(bundle, tmp_path / "model")
    assert "potstill[mlflow,serve]==" in (tmp_path / "model" / "requirements.txt").read_text()
    assert not list((tmp_path / "model").rglob("*.pkl"))  # loading it runs no pickle
    code = (
        f"import mlflow, pandas; print(mlflow.pyfunc.load_model({str(tmp_path / 'model')!r})"
        f".predict(pandas.DataFrame({{'text': {TEXTS!r}}}))['label'].tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=None)
    with Classifier.open(bundle) as classifier:
        assert done.stdout.strip() == str([one.label for one in classifier.classify(TEXTS)])
    (bundle / "model.onnx").write_bytes((bundle / "model.onnx").read_bytes() + b"\0")
    with pytest.raises(FormatError, match="was changed"):
        potstill.mlflow.save_model(bundle, tmp_path / "other")

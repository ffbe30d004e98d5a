"""Bundles to a hub and back, with the hub's real client, over a small hub of our own on the loopback."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from huggingface_hub import ModelCard
from support.network.hub import TOKEN, started
from support.tiny_bundle import unusual, write_bundle

from potstill.contract.bundle import read_manifest, write_sums
from potstill.contract.errors import UserError
from potstill.contract.promises.certificate import Certificate
from potstill.contract.scores.bounds import lower_bound
from potstill.contract.scores.record import Score
from potstill.export.layouts.push import push_to_hub
from potstill.serve.runtime.classifier import Classifier

pytestmark = pytest.mark.slow

NAME = "ann/tiny"
SCORE = Score(value=0.8123, low=0.7, high=0.9, n=120)
# The client reads its settings when it is imported, so every step is a process of its own. Prints the answer's label or the error.
OPENED = """
import json, sys
from potstill import Classifier, UserError
try:
    with Classifier.from_pretrained(sys.argv[1], **json.loads(sys.argv[2])) as one:
        print(json.dumps([one.classify(["the price will rise!"])[0].label, None]))
except UserError as error:
    print(json.dumps([None, str(error)]))
"""


@pytest.fixture
def hub():
    server = started()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle with scores and a card, large enough that its graph goes over the protocol for large files."""
    folder = write_bundle(
        tmp_path_factory.mktemp("hub") / "b", slow=600, scores={"validation": {"accuracy": SCORE, "macro_f1": SCORE}}
    )
    (folder / "README.md").write_text(
        "---\nlibrary_name: onnx\n---\n\n# tiny\n\nAbout.\n\n## Use\n\nold\n\n## Origin\n\nfrom here\n"
    )
    write_sums(folder)
    return folder


@pytest.fixture
def settings(hub, tmp_path, repository):
    own = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": TOKEN}
    return {**os.environ, **own, "PYTHONPATH": str(repository)}


@pytest.fixture
def call(console, settings, tmp_path):
    """A command of the console: (exit code, stdout, the one line on stderr)."""

    def run(*args, **environment):
        command = [*console, *map(str, args)]
        done = subprocess.run(
            command, env={**settings, **environment}, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout, done.stderr.removeprefix("potstill: ").rstrip("\n")

    return run


@pytest.fixture
def opened(settings):
    """Classifier.from_pretrained: (label, error)."""

    def run(name=NAME, environment=None, **options):
        command = [sys.executable, "-W", "error", "-c", OPENED, str(name), json.dumps(options)]
        done = subprocess.run(
            command, env={**settings, **(environment or {})}, capture_output=True, text=True, timeout=60, check=True
        )
        return tuple(json.loads(done.stdout))

    return run


def label_of(bundle):
    with Classifier.open(bundle) as classifier:
        return classifier.classify(["the price will rise!"])[0].label


def pushed(hub, name=NAME, branch="main"):
    return hub.repositories[name].files(branch)[1]


def test_a_pushed_bundle_opens_by_its_name_and_a_pulled_one_is_sound(hub, call, opened, bundle, tmp_path):
    code, out, err = call("push", bundle, NAME, "--private", "--license", "mit", "--language", "en")
    assert (code, err) == (0, "") and out.startswith("ann/tiny: 7 files, ")
    assert hub.repositories[NAME].private and hub.asked("PUT", "/large/")  # the graph went as a large file
    assert opened() == (label_of(bundle), None)
    code, out, err = call("pull", NAME, "got")
    assert (code, err) == (0, "") and "6 files, not signed, 3 golden texts" in out
    for name in ("bundle.json", "model.onnx", "tokenizer.json", "golden.jsonl", "quality.json"):
        assert (tmp_path / "got" / name).read_bytes() == (bundle / name).read_bytes()
    assert ".gitattributes" in pushed(hub) and not (tmp_path / "got" / ".gitattributes").exists()


def test_the_card_has_metadata_and_results_with_their_count_and_interval(hub, call, bundle, tmp_path):
    call("push", bundle, NAME, "--license", "mit", "--language", "en", "--dataset", "ann/posts")
    card = ModelCard(pushed(hub)["README.md"].decode())  # the hub client's own reader
    found = card.data.to_dict()
    assert (found["library_name"], found["pipeline_tag"], found["license"]) == ("potstill", "text-classification", "mit")
    assert (found["language"], found["datasets"], found["metrics"]) == (["en"], ["ann/posts"], ["accuracy", "f1"])
    accuracy = next(row for row in card.data.eval_results if row.metric_type == "accuracy")
    assert (accuracy.metric_value, accuracy.metric_args) == (SCORE.value, {"n": SCORE.n, "low": SCORE.low, "high": SCORE.high})
    assert accuracy.metric_name == "accuracy, interval 0.700 to 0.900, 120 texts"
    assert accuracy.dataset_name == "validation texts, by the teacher's labels"
    assert 'Classifier.from_pretrained("ann/tiny")' in card.text and "\nold\n" not in card.text
    assert "About." in card.text and "from here" in card.text and card.text.count("library_name") == 0


def test_a_certificate_is_a_result_by_whoever_labelled_its_texts(hub, call, tmp_path):
    promise = Certificate(
        confidence=0.95, sure=0.6, n=200, n_answered=150, n_right=144, source="gold", texts_digest="a", graph_digest="b",
        label_shares={"up": 1.0}, accuracy=0.9,
    )  # fmt: skip
    write_bundle(tmp_path / "b", certificate=promise)
    assert call("push", tmp_path / "b", NAME)[0] == 0
    (row,) = yaml.safe_load(pushed(hub)["README.md"].decode().split("---\n")[1])["model-index"][0]["results"]
    (metric,) = row["metrics"]
    assert row["dataset"]["name"] == "texts of the certificate, by people's labels"
    assert metric["value"] == 0.96 and metric["args"]["low"] == round(lower_bound(144, 150, 0.95), 4)
    assert "of the answers given (150 of 200 texts)" in metric["name"]


def test_a_revision_is_a_branch_a_commit_or_unknown(hub, call, opened, bundle, tmp_path):
    others = (write_bundle(tmp_path / f"other{seed}", seed) for seed in range(1, 20))
    other = next(one for one in others if label_of(one) != label_of(bundle))
    call("push", bundle, NAME)
    first = hub.repositories[NAME].branches["main"]
    assert call("push", other, NAME, "--revision", "next")[0] == 0
    assert hub.repositories[NAME].branches["main"] == first
    assert opened(revision="next") == (label_of(other), None)
    assert opened(revision=first) == (label_of(bundle), None)
    assert opened(revision="gone") == (None, "ann/tiny: has no revision 'gone'; name a branch, a tag or a commit")


def test_files_of_an_earlier_version_go_and_others_stay(hub, call, bundle):
    call("push", bundle, NAME)
    repository = hub.repositories[NAME]
    repository.commit("main", {**pushed(hub), "fast.onnx": b"old", "picture.png": b"mine"})
    call("push", bundle, NAME)
    assert "fast.onnx" not in pushed(hub) and pushed(hub)["picture.png"] == b"mine"


def test_once_here_it_opens_without_a_hub(hub, call, opened, bundle):
    call("push", bundle, NAME)
    assert opened()[1] is None
    hub.seen.clear()
    assert opened(local_files_only=True) == opened(environment={"HF_HUB_OFFLINE": "1"}) == (label_of(bundle), None)
    assert hub.seen == []
    without = {"HF_ENDPOINT": "http://127.0.0.1:9"}  # where nobody listens
    assert opened(environment=without) == (label_of(bundle), None)
    asked = "the hub cannot be reached or may not be asked"
    told = f"ann/none: SHA256SUMS of revision 'main' is not in the cache, and {asked}; fetch it once with a network"
    assert opened("ann/none", local_files_only=True)[1] == opened("ann/none", environment=without)[1] == told


def test_what_the_hub_refuses_is_one_line_and_leaves_no_folder(hub, call, bundle, tmp_path):
    call("push", bundle, NAME, "--private")
    missing = "the hub has no such model, or it is private; check the name, or log in with: hf auth login, or set HF_TOKEN"
    assert call("pull", NAME, "x", HF_TOKEN="") == (1, "", f"ann/tiny: {missing}")
    assert call("pull", "ann/other", "x") == (1, "", f"ann/other: {missing}")
    hub.refuse = {"model.onnx": 403}
    refused = "ann/tiny: model.onnx could not be fetched: the hub answered 403; log in with: hf auth login, or set HF_TOKEN, with a token that may read it"
    assert call("pull", NAME, "x") == (1, "", refused)
    hub.refuse = {}
    hub.repositories[NAME].gated = True
    gated = "ann/tiny: its owner has to let you in; ask on its page, then log in with: hf auth login, or set HF_TOKEN"
    hub.repositories[NAME].private = False
    assert call("pull", NAME, "x", HF_TOKEN="") == (1, "", gated)
    hub.repositories[NAME].commit("main", {"README.md": b""})
    no_bundle = (
        "ann/tiny: has no SHA256SUMS at revision 'main', so it is not a bundle; write one there with: potstill push BUNDLE ann/tiny"
    )
    assert call("pull", NAME, "x") == (1, "", no_bundle)
    assert not list(tmp_path.glob("*x*"))


def test_a_connection_lost_in_mid_file_leaves_nothing_and_the_next_try_goes_on(hub, call, opened, bundle, tmp_path):
    call("push", bundle, NAME)
    hub.cut = {"model.onnx": 3000}
    lost = "ann/tiny: model.onnx could not be fetched: the hub cannot be reached; try again, the download resumes where it stopped"
    assert call("pull", NAME, "x") == (1, "", lost)
    assert opened() == (None, lost) and not list(tmp_path.glob("*x*"))
    assert "model.onnx of revision 'main' is not in the cache" in opened(local_files_only=True)[1]
    hub.cut = {}
    assert call("pull", NAME, "x")[0] == 0 and opened() == (label_of(bundle), None)


@pytest.mark.parametrize(
    ("cut", "refuse", "reason"),
    [
        ({"/commit/": 100}, {}, "the hub cannot be reached; try again"),
        ({}, {"/large/": 403}, "the hub answered 403: you may not write there; check the name, or log in with: hf auth login, or set HF_TOKEN, with a token that may"),
        ({}, {"/preupload/": 418}, "the hub answered 418; try again"),
    ],
)  # fmt: skip
def test_a_push_that_breaks_off_changes_nothing_there(hub, call, bundle, tmp_path, cut, refuse, reason):
    call("push", write_bundle(tmp_path / "other", seed=3), NAME)
    before = dict(pushed(hub))
    hub.cut, hub.refuse = cut, refuse
    assert call("push", bundle, NAME) == (1, "", f"ann/tiny: the bundle was not pushed: {reason}")
    assert pushed(hub) == before


def test_whoever_may_not_write_or_names_no_licence_of_the_hub_is_told(hub, call, bundle):
    said = "the bundle was not pushed: the hub answered"
    unknown = (
        f"ann/tiny: {said} 401: it does not know you; log in with: hf auth login, or set HF_TOKEN, with a token that may write"
    )
    assert call("push", bundle, NAME, HF_TOKEN="") == (1, "", unknown)
    assert call("push", bundle, "bob/tiny")[2].startswith(f"bob/tiny: {said} 403: you may not write there")
    wrong = 'Invalid metadata in README.md. - "license" must be one of [mit, ...]'
    assert call("push", bundle, NAME, "--license", "mitt") == (1, "", f"ann/tiny: {said} 400: {wrong}")


def test_a_changed_graph_is_refused_and_an_edited_card_is_not(hub, call, opened, bundle, tmp_path):
    call("push", bundle, NAME)
    repository, files = hub.repositories[NAME], pushed(hub)
    repository.commit("main", {**files, "README.md": files["README.md"] + b"\nmore\n"})
    assert opened() == (label_of(bundle), None)
    code, out, _ = call("pull", NAME, "edited")
    assert code == 0 and "its card was edited on the hub after the push" in out
    assert (tmp_path / "edited" / "README.md").read_text().endswith("\nmore\n")
    assert call("verify", "edited")[0] == 0
    broken = bytes([*files["model.onnx"][:-1], files["model.onnx"][-1] ^ 1])
    repository.commit("main", {**files, "model.onnx": broken})
    assert opened()[1].startswith("ann/tiny/model.onnx: was changed: its SHA-256 is ")
    code, _, err = call("pull", NAME, "edited")
    assert code == 1 and err.startswith("ann/tiny/model.onnx: was changed") and err.endswith("nothing was written")
    assert (tmp_path / "edited" / "README.md").is_file()  # what was there stays


def test_a_bundle_with_operators_that_no_export_writes_opens_only_with_trust(hub, call, opened, tmp_path):
    odd = unusual(write_bundle(tmp_path / "odd"))
    call("push", odd, NAME)
    label, error = opened()
    assert label is None and error.startswith("ann/tiny/model.onnx: ") and "EyeLike" in error
    assert opened(trust=True)[0] is not None
    assert call("pull", NAME, "x")[0] == 1 and call("pull", NAME, "x", "--trust")[0] == 0


def test_a_signed_bundle_is_signed_again_and_only_the_right_key_pulls_it(hub, call, bundle, tmp_path):
    for name in ("own", "other"):
        private, public = tmp_path / f"{name}.pem", tmp_path / f"{name}.pub"
        subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private], check=True)
        subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    signed = shutil.copytree(bundle, tmp_path / "signed")
    assert call("sign", signed, "--key", "own.pem")[0] == 0
    again = f"{signed}: is signed, and its card changes for the hub; give the key to sign it again with (--sign)"
    assert call("push", signed, NAME) == (1, "", again)
    assert call("push", signed, NAME, "--sign", "own.pem")[0] == 0
    assert "signed by the holder of own.pub" in call("pull", NAME, "x", "--key", "own.pub")[1]
    code, _, err = call("pull", NAME, "y", "--key", "other.pub")
    assert code == 1 and "does not match this key" in err and not (tmp_path / "y").exists()


def test_a_folder_goes_before_the_hub_and_other_names_are_refused(bundle):
    with Classifier.from_pretrained(bundle) as classifier:
        assert classifier.manifest == read_manifest(bundle)
    for name in ("no folder", "ann/../etc", "a/b/c", "tiny"):
        with pytest.raises(UserError, match=r"is neither a folder nor a name on the hub; give a bundle's folder, or USER/NAME$"):
            Classifier.from_pretrained(name)
    with pytest.raises(UserError, match="^'tiny' is not a name on the hub; give USER/NAME$"):
        push_to_hub(bundle, "tiny")


def test_without_the_client_the_error_names_the_extra(tmp_path, repository):
    (tmp_path / "huggingface_hub.py").write_text("raise ModuleNotFoundError(name='huggingface_hub')")
    code = "from potstill import Classifier\nClassifier.from_pretrained('ann/tiny')"
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{repository}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.stderr.endswith("the package 'huggingface_hub' is not installed; install it with: pip install 'potstill[hub]'\n")


def test_a_folder_with_other_files_is_not_replaced(hub, call, bundle, tmp_path):
    call("push", bundle, NAME)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    assert call("pull", NAME, "mine") == (1, "", "mine: is a folder with other files; name a bundle or a new folder")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_metadata_leaves_out_what_is_not_known(hub, call, tmp_path):
    write_bundle(tmp_path / "b")
    call("push", tmp_path / "b", NAME)
    found = yaml.safe_load(pushed(hub)["README.md"].decode().split("---\n")[1])
    assert sorted(found) == ["library_name", "pipeline_tag", "tags"]

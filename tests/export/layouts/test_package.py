"""Every layout gives the bundle's own answers, or is read by the parser of the tool that it is for."""

from __future__ import annotations

import importlib.util
import json
import subprocess

import numpy as np
import onnxruntime as ort
import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import text_format
from support.browser import web_runtime
from support.tiny_checkpoint import LABELS, LOOSE, write_checkpoint
from tokenizers import Tokenizer
from transformers import AutoTokenizer, pipeline

from potstill.commands.main import run
from potstill.contract.bundle import read_manifest
from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import digest
from potstill.contract.security.signature import check_signature, sign
from potstill.export.config import LAYOUTS, PAGES, PackageConfig
from potstill.export.layouts.huggingface import with_places
from potstill.export.layouts.package import package, sign_bundle
from potstill.export.run import export_bundle
from potstill.serve.offline.verify import verify
from potstill.serve.runtime.classifier import Classifier

pytestmark = pytest.mark.slow

HERE = [
    layout for layout in LAYOUTS if layout not in PAGES or web_runtime()
]  # that of a page needs a runtime that is no part of potstill
TEXTS = ["the price will rise", "puts calls never", "stay very much today soon " * 20]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    return export_bundle(write_checkpoint(folder / "student"), folder / "bundle", LOOSE).bundle


def settings(layout):
    return PackageConfig(layout, runtime=web_runtime() if layout in PAGES else None)


@pytest.fixture(scope="module")
def packed(bundle, tmp_path_factory):
    """The folder of every layout."""
    folder = tmp_path_factory.mktemp("packed")
    return {layout: package(bundle, folder / layout, settings(layout)).folder for layout in HERE}


@pytest.fixture(scope="module")
def expected(bundle):
    with Classifier.open(bundle) as classifier:
        return classifier.probs(TEXTS)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A private key, its public half, and the public half of another."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("own", "other"):
        private, public = folder / f"{name}.pem", folder / f"{name}.pub"
        subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private], check=True)
        subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    return folder / "own.pem", folder / "own.pub", folder / "other.pub"


def test_a_transformers_pipeline_over_optimum_s_model_gives_the_bundle_s_probabilities(packed, expected):
    reason = "optimum is not installed: it has no release for transformers 5"
    optimum = pytest.importorskip("optimum.onnxruntime", reason=reason)
    model = optimum.ORTModelForSequenceClassification.from_pretrained(packed["huggingface"])
    tokenizer = AutoTokenizer.from_pretrained(packed["huggingface"])
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)
    for text, row in zip(TEXTS, expected, strict=True):
        found = {answer["label"]: answer["score"] for answer in classify([text], truncation=True)[0]}
        assert found == pytest.approx(dict(zip(LABELS, row.tolist(), strict=True)), abs=1e-5)


def test_triton_s_own_configuration_message_reads_the_repository_and_its_graph_gives_probabilities(packed, bundle, expected):
    place = packed["triton"] / "models" / "tiny"
    config = text_format.Parse((place / "config.pbtxt").read_text(), model_config().ModelConfig())
    assert (config.name, config.platform, config.max_batch_size) == ("tiny", "onnxruntime_onnx", 8)
    assert config.HasField("dynamic_batching") == read_manifest(bundle).batch_invariant
    session = ort.InferenceSession(place / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    assert [node.name for node in config.input] == [node.name for node in session.get_inputs()]
    assert {model_config().DataType.Name(node.data_type) for node in config.input} == {"TYPE_INT64"}
    assert [node.name for node in config.output] == [node.name for node in session.get_outputs()] == ["probs"]
    assert list(config.output[0].dims) == session.get_outputs()[0].shape[1:] == [3]
    assert (place / config.output[0].label_filename).read_text().split() == LABELS
    tokenizer = Tokenizer.from_file(str(packed["triton"] / "tokenizer.json"))
    for text, row in zip(TEXTS, expected, strict=True):
        encoding = tokenizer.encode(text)
        values = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask, "token_type_ids": encoding.type_ids}
        feed = {node.name: np.array([values[node.name]], dtype=np.int64) for node in session.get_inputs()}
        np.testing.assert_allclose(session.run(["probs"], feed)[0][0], row, atol=1e-5)


def model_config():
    """Triton's messages as its client brings them; the package around them would want gRPC."""
    origin = importlib.util.find_spec("tritonclient").submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location("model_config_pb2", f"{origin}/grpc/model_config_pb2.py")
    if not hasattr(model_config, "module"):
        model_config.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(model_config.module)
    return model_config.module


def test_the_inference_service_and_the_compose_file_let_the_container_write_nothing_and_be_nobody(packed):
    service = yaml.safe_load((packed["kserve"] / "inferenceservice.yaml").read_text())
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = service["spec"]["predictor"]
    assert predictor["securityContext"]["runAsNonRoot"] and predictor["securityContext"]["runAsUser"] > 0
    (container,) = predictor["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    compose = yaml.safe_load((packed["docker"] / "compose.yaml").read_text())
    (own,) = compose["services"].values()
    assert own["read_only"] and own["cap_drop"] == ["ALL"] and not own["user"].startswith("0")
    assert own["image"] == container["image"] == f"tiny:{digest.of_file(packed['kserve'] / 'bundle' / 'SHA256SUMS')[:12]}"
    lines = (packed["docker"] / "Dockerfile").read_text().splitlines()
    assert any(line.startswith("USER 1") for line in lines) and "COPY bundle /bundle" in lines
    assert any(line.endswith("/site-packages/onnxruntime/capi/libonnxruntime.so*") for line in lines)
    (entry,) = [json.loads(line.removeprefix("ENTRYPOINT ")) for line in lines if line.startswith("ENTRYPOINT ")]
    assert entry[:3] == ["potstill", "serve", "/bundle"]
    assert verify(packed["docker"] / "bundle").problems == []


@pytest.mark.parametrize("layout", HERE)
def test_every_layout_has_sums_a_card_and_a_valid_bill_of_materials(packed, bundle, layout):
    folder = packed[layout]
    done = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    listed = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert listed == {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"SHA256SUMS"}
    card = (folder / "README.md").read_text()
    assert card.count("## Use") == 1 and "## Scores" in card and "## Origin" in card
    text = (folder / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    model = json.loads(text)["metadata"]["component"]
    libraries = {component["purl"].partition("@")[0] for component in json.loads(text)["components"] if "purl" in component}
    assert libraries == {"pkg:npm/onnxruntime-web"} if layout in PAGES else "pkg:pypi/onnxruntime" in libraries
    files = {file["name"]: file["hashes"][0]["content"] for file in model["components"]}
    assert files["model.onnx"] == digest.of_file(bundle / "model.onnx")


def test_two_packages_of_one_bundle_are_equal_byte_for_byte(packed, bundle, tmp_path):
    for layout in HERE:
        again = package(bundle, tmp_path / layout, settings(layout)).folder
        files = sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
        assert all((again / path).read_bytes() == (packed[layout] / path).read_bytes() for path in files)


def test_a_signed_package_is_checked_with_the_public_key_and_refused_once_a_file_is_changed(bundle, keys, tmp_path):
    own, public, other = keys
    report = package(bundle, tmp_path / "hub", PackageConfig("huggingface", sign=str(own)))
    assert report.signed and "signed (model.sig)" in report.as_text()
    check_signature(report.folder, public)
    with pytest.raises(FormatError, match="does not match this key and these files"):
        check_signature(report.folder, other)
    (report.folder / "config.json").write_text("{}")
    with pytest.raises(FormatError, match="model.sig: does not match this key and these files"):
        check_signature(report.folder, public)


@pytest.mark.parametrize("name", [".gitignore", ".git/config", "sub/file"])
def test_a_file_that_came_later_is_refused_wherever_it_hides(keys, tmp_path, name):
    folder = tmp_path / "signed"
    folder.mkdir()
    (folder / "a").write_text("a")
    sign(folder, keys[0])
    check_signature(folder, keys[1])
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("b")
    with pytest.raises(FormatError, match="does not match"):
        check_signature(folder, keys[1])


def test_the_console_signs_a_bundle_in_place_and_verify_checks_it(bundle, keys, tmp_path, capsys):
    own = export_copy(bundle, tmp_path / "bundle")
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    assert run(["sign", str(own), "--key", str(keys[0])]) == 0
    assert f"{own}: signed (model.sig); check it with: potstill verify {own} --key PUBLIC" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in own.iterdir() if path.name != "model.sig"} == before
    assert verify(own, keys[1]).problems == []
    assert run(["verify", str(own), "--key", str(keys[2])]) == 1
    with Classifier.open(own) as classifier:
        assert classifier.manifest.name == "tiny"


def test_a_key_that_cannot_sign_is_one_line_and_leaves_the_bundle_as_it_was(bundle, keys, tmp_path):
    own = export_copy(bundle, tmp_path / "bundle")
    (tmp_path / "key").write_text("no key")
    for key in (tmp_path / "key", tmp_path / "none", keys[1]):
        with pytest.raises(UserError, match="cannot sign with it .*; give an elliptic-curve private key in PEM$"):
            sign_bundle(own, key)
    assert not (own / "model.sig").exists() and [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["bundle"]


def export_copy(bundle, place):
    place.mkdir()
    for path in bundle.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    return place


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layout": "tar"}, "layout is 'tar'; allowed: huggingface, triton, kserve, kubernetes, docker, web, space"),
        (
            {"layout": "docker", "runtime": "a.tgz"},
            "a runtime is given, but the layout docker has none; it is for the layouts web and space",
        ),
        ({"layout": "docker", "image": "A b"}, "image is 'A b'; give an image name such as team/stance:1"),
    ],
)
def test_a_setting_that_no_layout_can_have_is_refused(values, message):
    with pytest.raises(UserError) as caught:
        PackageConfig(**values)
    assert str(caught.value) == message


def test_a_changed_bundle_is_not_packaged_and_a_package_never_lands_in_its_bundle(bundle, tmp_path):
    own = export_copy(bundle, tmp_path / "bundle")
    with pytest.raises(UserError, match="is the bundle or inside it; choose a place outside of"):
        package(own, own / "hub", PackageConfig("huggingface"))
    (own / "quality.json").write_text("{}")
    with pytest.raises(FormatError, match="quality.json"):
        package(own, tmp_path / "hub", PackageConfig("huggingface"))
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize(
    ("config", "places"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 128),
        ({"model_type": "bert", "max_position_embeddings": 64}, 64),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 130),
        ({"model_type": "potstill-charformer", "max_position_embeddings": 512}, 512),
        ({"model_type": "t5"}, None),
    ],
)
def test_the_configuration_for_other_tools_has_as_many_places_as_the_graph_takes(config, places):
    assert with_places(config, 128).get("max_position_embeddings") == places


def test_every_layout_switches_the_telemetry_of_onnxruntime_off(bundle, packed):
    marks = {"huggingface": "README.md", "triton": "README.md", "docker": "Dockerfile", "kserve": "inferenceservice.yaml"}
    for layout, file in marks.items():
        assert "ORT_DISABLE_TELEMETRY" in (packed[layout] / file).read_text(), layout
    assert json.loads((packed["huggingface"] / "config.json").read_text())["max_position_embeddings"] == 32
    assert 'os.environ["ORT_DISABLE_TELEMETRY"] = "1"' in (bundle / "README.md").read_text().partition("import numpy")[0]

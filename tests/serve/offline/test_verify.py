"""A bundle attacked in every file: `open` and `verify` refuse each with the file's name, also where the sums were written anew."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import msgspec
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto
from support.attacks.graph import ATTACKS as GRAPH_ATTACKS
from support.attacks.graph import SIZE_ATTACKS
from support.attacks.tokenizer import ATTACKS as TOKENIZER_ATTACKS
from support.tiny_bundle import unusual, write_bundle

from potstill.commands.main import run as console
from potstill.contract.bundle import REQUIRED_FILES, write_sums
from potstill.contract.errors import UserError
from potstill.contract.security.signature import sign
from potstill.contract.system.child_process import environment
from potstill.serve.config import CascadeConfig
from potstill.serve.offline.cascade import cascade_bundle
from potstill.serve.offline.verify import verify
from potstill.serve.runtime.classifier import Classifier

pytestmark = pytest.mark.slow

FILES = [*REQUIRED_FILES, "README.md", "fast.onnx", "fast_tokenizer.json"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A cascade, which has every file that a bundle can have, and a card."""
    folder = tmp_path_factory.mktemp("sound")
    fast, slow = write_bundle(folder / "fast", seed=3), write_bundle(folder / "slow")
    (slow / "README.md").write_text("# card\n")
    write_sums(slow)
    (folder / "texts.csv").write_text("text\nthe price will rise\nfall\nstay\nthe the\n")
    cascade_bundle(fast, slow, folder / "texts.csv", folder / "bundle", CascadeConfig(max_loss=1))
    return folder / "bundle"


@pytest.fixture
def bundle(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "bundle")


def refusals(bundle):
    """What `verify` says, after `open` was seen to refuse too, with the first of it."""
    problems = verify(bundle).problems
    assert all("\n" not in problem for problem in problems)
    with pytest.raises(UserError) as caught:
        Classifier.open(bundle)
    assert problems[0] == str(caught.value)
    return problems


def test_a_sound_bundle_is_told_so_in_one_line(sound, capsys):
    assert verify(sound).problems == []
    assert console(["verify", str(sound)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{sound}: sound; 8 files unchanged, not signed, 3 golden texts, largest change of a probability 0\n"
    assert said.err == ""


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_flipped_byte_is_refused(bundle, name, where):
    data = bytearray((bundle / name).read_bytes())
    data[{"first": 0, "middle": len(data) // 2, "last": -1}[where]] ^= 1
    (bundle / name).write_bytes(data)
    (problem,) = refusals(bundle)
    assert problem.startswith(f"{bundle / name}: was changed: its SHA-256 is ")


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_is_refused(bundle, name):
    (bundle / name).write_bytes((bundle / name).read_bytes()[:-1])
    assert refusals(bundle)[0].startswith(f"{bundle / name}: was changed")


@pytest.mark.parametrize("name", FILES)
def test_a_link_a_folder_and_a_pipe_in_place_of_a_file_are_refused(bundle, name, tmp_path):
    os.rename(bundle / name, tmp_path / name)
    for make in (lambda path: path.symlink_to(tmp_path / name), os.mkdir, os.mkfifo):
        make(bundle / name)
        assert refusals(bundle)[0].startswith(f"{bundle / name}: is missing or not a plain file")
        (bundle / name).rmdir() if (bundle / name).is_dir() and not (bundle / name).is_symlink() else (bundle / name).unlink()


@pytest.mark.parametrize(
    ("one", "other"), [("model.onnx", "fast.onnx"), ("bundle.json", "quality.json"), ("golden.jsonl", "README.md")]
)
def test_two_files_that_changed_places_are_both_named(bundle, one, other):
    aside = bundle.parent / "aside"
    os.rename(bundle / one, aside)
    os.rename(bundle / other, bundle / one)
    os.rename(aside, bundle / other)
    assert {problem.partition(": was changed")[0] for problem in refusals(bundle)} == {str(bundle / one), str(bundle / other)}


def test_every_wrong_file_has_a_line_of_its_own_at_the_console_and_the_exit_code_is_1(bundle, capsys):
    (bundle / "extra.py").write_text("x")
    (bundle / "quality.json").write_text("changed")
    (bundle / "tokenizer.json").unlink()
    assert console(["verify", str(bundle)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        str(bundle / name) for name in ("extra.py", "quality.json", "tokenizer.json")
    ]
    assert all(line.startswith("potstill: ") for line in lines)


@pytest.mark.parametrize("name", ["../golden.jsonl", "/etc/passwd", "sub/model.onnx", "..", "."])
def test_a_path_that_leaves_the_folder_is_refused_whatever_its_sum(bundle, name):
    (bundle / "SHA256SUMS").write_text((bundle / "SHA256SUMS").read_text() + f"{'0' * 64}  {name}\n")
    assert refusals(bundle) == [
        f"{bundle / 'SHA256SUMS'}: line 9: must be 64 hexadecimal digits, two spaces and a plain file name, each name once"
    ]


def test_sums_that_are_a_link_are_refused(bundle, tmp_path):
    os.rename(bundle / "SHA256SUMS", tmp_path / "sums")
    (bundle / "SHA256SUMS").symlink_to(tmp_path / "sums")
    assert refusals(bundle) == [f"{bundle}: is not a bundle: it has no SHA256SUMS; make one with: potstill export"]


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """The private and the public key of a signer, and the public key of somebody else."""
    pytest.importorskip("model_signing", reason="signing needs the package model-signing")
    folder = tmp_path_factory.mktemp("keys")
    for who in ("signer", "other"):
        for command in (
            ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{who}.pem"],
            ["ec", "-in", f"{who}.pem", "-pubout", "-out", f"{who}.pub"],
        ):
            subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    return folder / "signer.pem", folder / "signer.pub", folder / "other.pub"


def test_a_signature_is_told_of_and_with_a_key_checked(bundle, keys, capsys):
    private, public, other = keys
    assert console(["verify", str(bundle), "--key", str(public)]) == 1
    assert "is not signed: it has no model.sig" in capsys.readouterr().err
    sign(bundle, private)
    assert ", signed (give --key to check by whom), " in verify(bundle).as_text()
    assert f", signed by the holder of {public}, " in verify(bundle, public).as_text()
    (problem,) = verify(bundle, other).problems
    assert problem.startswith(f"{bundle / 'model.sig'}: does not match this key and these files")


def test_whoever_writes_the_sums_anew_does_not_pass_the_signature(bundle, keys):
    private, public, _ = keys
    sign(bundle, private)
    (bundle / "README.md").write_text("another card")
    write_sums(bundle)
    assert verify(bundle).problems == []
    (problem,) = verify(bundle, public).problems
    assert problem.startswith(f"{bundle / 'model.sig'}: does not match this key and these files")


# From here on the attacker has written the sums anew.


@pytest.mark.parametrize("name", ["model.onnx", "fast.onnx"])
@pytest.mark.parametrize(("attack", "told"), GRAPH_ATTACKS, ids=lambda value: getattr(value, "__name__", None))
def test_a_graph_that_does_more_than_answer_is_refused_though_its_sum_is_right(bundle, name, attack, told):
    model = onnx.load(bundle / name)
    attack(model)
    (bundle / name).write_bytes(model.SerializeToString())
    write_sums(bundle)
    assert refusals(bundle) == [f"{bundle / name}: {told}"]


def test_external_numbers_are_refused_though_their_file_is_listed_too(bundle):
    model = onnx.load(bundle / "model.onnx")
    tensor = model.graph.initializer[0]
    (bundle / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    write_sums(bundle)
    (problem,) = refusals(bundle)
    assert problem.startswith(f"{bundle / 'model.onnx'}: tensor 'table': is stored in another file")


def test_another_format_number_is_refused_though_its_sum_is_right(bundle):
    content = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(content | {"format": 2}))
    write_sums(bundle)
    assert refusals(bundle) == [f"{bundle / 'bundle.json'}: format: is 2; this version reads 1"]


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("quality.json", "README.md")])
@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"{}", b"[[[[" * 100_000], ids=["empty", "zeros", "object", "deep"])
def test_what_no_parser_reads_is_refused_though_its_sum_is_right(bundle, name, content):
    (bundle / name).write_bytes(content)
    write_sums(bundle)
    assert refusals(bundle)[0].startswith(f"{bundle / name}: ")


def test_graphs_that_changed_places_drift_though_their_sums_are_right(bundle):
    os.rename(bundle / "model.onnx", bundle / "aside")
    os.rename(bundle / "fast.onnx", bundle / "model.onnx")
    os.rename(bundle / "aside", bundle / "fast.onnx")
    write_sums(bundle)
    (problem,) = refusals(bundle)
    assert problem.startswith(f"{bundle}: the golden texts drifted: ")
    assert "so a file of the bundle was replaced" in problem


def test_golden_texts_without_the_targets_of_the_task_are_refused(tmp_path):
    folder = write_bundle(tmp_path / "pairs", target=True)
    rows = [json.loads(line) for line in (folder / "golden.jsonl").read_text().splitlines()]
    (folder / "golden.jsonl").write_text("".join(json.dumps({**row, "target": None}) + "\n" for row in rows))
    write_sums(folder)
    assert refusals(folder) == [
        f"{folder / 'golden.jsonl'}: line 1: has no target, but the task has targets; export the bundle again"
    ]


IN_BOUNDS = """
import resource, sys
from pathlib import Path
from potstill.contract.system.memory import peak_resident_bytes
from potstill.contract.errors import UserError
from potstill.serve.offline.verify import verify
from potstill.serve.runtime.classifier import Classifier
resource.setrlimit(resource.RLIMIT_AS, (3_000_000_000, 3_000_000_000))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for folder in sys.argv[1:]:
    (problem,) = verify(folder).problems
    try:
        Classifier.open(folder)
    except UserError as error:
        assert str(error) == problem, (str(error), problem)
    print(problem, flush=True)
print(peak_resident_bytes() // 1024)
"""


def test_a_bundle_that_would_explode_is_refused_in_one_line_with_little_memory(tmp_path):
    told = []
    for at, (attack, problem) in enumerate([*SIZE_ATTACKS, *TOKENIZER_ATTACKS]):
        folder = write_bundle(tmp_path / str(at))
        name = "model.onnx" if at < len(SIZE_ATTACKS) else "tokenizer.json"
        if name == "model.onnx":
            model = onnx.load(folder / name)
            attack(model)
            onnx.save(model, folder / name)
        else:
            form = json.loads((folder / name).read_text())
            attack(form)
            (folder / name).write_text(json.dumps(form))
        write_sums(folder)
        told.append(f"{folder / name}: {problem}")
    folders = [str(tmp_path / str(at)) for at in range(len(told))]
    done = subprocess.run([sys.executable, "-c", IN_BOUNDS, *folders], capture_output=True, text=True, env=environment())
    *lines, most_kb = done.stdout.splitlines()
    assert (lines, done.stderr) == (told, "")
    assert int(most_kb) < 500_000


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("SHA256SUMS", 2**20),
        ("bundle.json", 2**24),
        ("golden.jsonl", 2**23),
        ("tokenizer.json", 2**26),
        ("model.onnx", 2**31 - 1),
        ("quality.json", 2**26),
    ],
)
def test_files_that_are_far_too_large_are_refused_before_they_are_read(tmp_path, name, most):
    bundle = write_bundle(tmp_path / "bundle")
    with (bundle / name).open("r+b") as file:
        file.truncate(20_000_000_000)  # of which the disk holds nothing; reading it would take a minute
    began = time.process_time()
    (problem,) = refusals(bundle)
    assert problem == f"{bundle / name}: is too large: at most {most} bytes are allowed; export the bundle again"
    assert time.process_time() - began < 2


def test_a_bundle_of_many_golden_texts_is_refused(tmp_path):
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "golden.jsonl").write_bytes((bundle / "golden.jsonl").read_bytes() * 400)
    write_sums(bundle)
    (problem,) = refusals(bundle)
    assert problem == f"{bundle / 'golden.jsonl'}: has 1200 texts; at most 1000 are allowed, export the bundle again"


def test_a_bundle_whose_golden_texts_take_long_to_answer_is_refused(tmp_path):
    bundle = write_bundle(tmp_path / "bundle")
    row = msgspec.json.decode((bundle / "golden.jsonl").read_bytes().splitlines()[0])
    (bundle / "golden.jsonl").write_bytes(b"\n".join([msgspec.json.encode({**row, "text": "rise " * 2000})] * 61))
    write_sums(bundle)
    (problem,) = refusals(bundle)
    assert (
        problem == f"{bundle / 'golden.jsonl'}: has 61000 characters to answer; at most 60000 are allowed, export the bundle again"
    )


@pytest.mark.parametrize("temperature", [1e-320, 5e-324, 1e300])
def test_a_temperature_that_makes_no_probabilities_is_refused(tmp_path, temperature):
    bundle = write_bundle(tmp_path / "bundle")
    manifest = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(manifest | {"temperature": temperature}))
    write_sums(bundle)
    (problem,) = refusals(bundle)
    assert problem == f"{bundle / 'bundle.json'}: temperature: is {temperature}; it must be from 1e-06 to 1e+06"


def test_a_graph_that_fails_when_it_runs_is_named_and_onnxruntime_writes_nothing_itself(tmp_path, capfd):
    bundle = write_bundle(tmp_path / "bundle")
    model = onnx.load(bundle / "model.onnx")
    table = model.graph.initializer[0]
    table.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(table)[:1], table.name))
    for node in model.graph.node:
        node.name = f"\x1b]0;owned\x07{node.output[0]}"
    onnx.save(model, bundle / "model.onnx")
    write_sums(bundle)
    assert console(["verify", str(bundle)]) == 1
    (problem,) = capfd.readouterr().err.splitlines()
    assert problem.startswith(f"potstill: {bundle / 'model.onnx'}: onnxruntime {ort.__version__} cannot run it: ")
    assert "owned" in problem and "\x1b" not in problem


def test_a_trusted_bundle_may_have_what_no_export_writes(tmp_path, capsys):
    bundle = unusual(write_bundle(tmp_path / "bundle"))
    (problem,) = refusals(bundle)
    assert problem.endswith(
        "operator EyeLike: is none that an export writes; if you know who made the bundle, open it with --trust"
    )
    assert verify(bundle, trust=True).problems == []
    (tmp_path / "texts.csv").write_text("text\nfall\n")
    assert console(["predict", str(bundle), str(tmp_path / "texts.csv")]) == 1
    assert console(["predict", "--trust", str(bundle), str(tmp_path / "texts.csv")]) == 0
    with Classifier.open(bundle, trust=True) as classifier:
        assert classifier.classify(["fall"])


def test_what_is_made_from_a_trusted_bundle_is_proved_with_the_same_trust(tmp_path, capsys):
    bundle = unusual(write_bundle(tmp_path / "bundle", label_shares={"up": 0.2, "flat": 0.3, "down": 0.5}))
    texts = [f"the price will {word} {n}" for n in range(20) for word in ("rise", "fall", "stay")]
    with Classifier.open(bundle, trust=True) as classifier:
        rows = [{"text": text, "gold": answer.label} for text, answer in zip(texts, classifier.classify(texts), strict=True)]
    gold = tmp_path / "gold.jsonl"
    gold.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for command in (
        ["certify", str(bundle), str(gold), "--accuracy", "0.5", "--out", str(tmp_path / "certified")],
        ["check", str(tmp_path / "certified"), str(gold)],
        ["adapt", str(bundle), str(gold), "--out", str(tmp_path / "adapted")],
        ["cascade", str(bundle), str(bundle), str(gold), str(tmp_path / "joined"), "--max-loss", "0.1"],
    ):
        assert console(command) == 1
        assert "EyeLike" in capsys.readouterr().err
        assert console([*command, "--trust"]) == 0, capsys.readouterr().err
    for name in ("certified", "adapted", "joined"):
        assert verify(tmp_path / name, trust=True).problems == []


def test_control_characters_in_a_bundle_do_not_reach_the_terminal(tmp_path, capsys):
    bundle = write_bundle(tmp_path / "bundle")
    manifest = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(manifest | {"\x1b]0;owned\x07": 1}))
    write_sums(bundle)
    assert console(["verify", str(bundle)]) == 1
    assert "\x1b" not in capsys.readouterr().err

"""A bundle packaged for the web answers in a real browser, opened from disk, and in Node, as it does in Python."""

from __future__ import annotations

import json
import shutil
import tarfile
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import numpy as np
import pytest
from huggingface_hub import SpaceCard
from playwright.sync_api import expect
from support.browser import needed_web_runtime, node, recorded_requests
from support.tiny_bundle import some_heads, write_bundle
from support.tiny_checkpoint import LOOSE, WORDS, write_checkpoint
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from potstill.commands.main import run
from potstill.contract.bundle import read_golden, read_manifest, write_golden, write_manifest, write_sums
from potstill.contract.errors import FormatError, UserError
from potstill.contract.questions.decision import Conformal
from potstill.export.config import PackageConfig
from potstill.export.layouts.package import package
from potstill.export.layouts.web.folder import write_web
from potstill.export.layouts.web.runtime import KNOWN, Runtime, open_runtime
from potstill.export.run import export_bundle
from potstill.serve.runtime.classifier import Classifier

pytestmark = pytest.mark.slow

N_TEXTS = 2000
SAME_LABELS = 0.995
MOST_CHANGE = 0.02
CLASSIFY = """async ([texts, targets, sets]) => {
    const classifier = globalThis.opened ??= await potstill.open();
    const found = [];
    for (const [i, text] of texts.entries()) found.push(await classifier.classify(text, targets?.[i], { sets }));
    return found;
}"""


@pytest.fixture(scope="module")
def runtime():
    return needed_web_runtime()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    return export_bundle(write_checkpoint(folder / "student"), folder / "bundle", LOOSE).bundle


@pytest.fixture(scope="module")
def packed(bundle, runtime, tmp_path_factory):
    return package(bundle, tmp_path_factory.mktemp("packed") / "web", PackageConfig("web", runtime=runtime)).folder


def some_texts(n):
    rng = np.random.default_rng(7)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 40))) for _ in range(n)]


def page_of(folder, new_page):
    """The opened page of a folder, which has shown its examples."""
    page = new_page()
    page.goto(f"file://{folder}/index.html")
    expect(page.locator("#example-list li")).not_to_have_count(0)
    return page


def test_two_thousand_texts_get_python_s_labels_in_a_page_opened_from_disk(packed, bundle, new_page):
    texts = some_texts(N_TEXTS)
    found = page_of(packed, new_page).evaluate(CLASSIFY, [texts, None, False])
    with Classifier.open(bundle) as classifier:
        expected = classifier.classify(texts)
    same = np.mean([mine["label"] == right.label for mine, right in zip(found, expected, strict=True)])
    change = max(
        abs(mine["probs"][label] - prob) for mine, right in zip(found, expected, strict=True) for label, prob in right.probs.items()
    )
    assert len({answer.label for answer in expected}) > 1
    assert same >= SAME_LABELS and change <= MOST_CHANGE, (same, change)


def test_the_page_asks_nothing_of_any_other_place_and_answers_at_the_keyboard(packed, bundle, new_page):
    page = new_page()
    asked = recorded_requests(page)
    problems = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"file://{packed}/index.html")
    page.get_by_label("Text", exact=True).fill("the price will rise")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#answer")).to_be_visible()
    with Classifier.open(bundle) as classifier:
        (answer,) = classifier.classify(["the price will rise"])
    shown = dict(
        zip(page.locator("#bars .name").all_text_contents(), page.locator("#bars .share").all_text_contents(), strict=True)
    )
    for label, prob in answer.probs.items():
        assert float(shown[label].removesuffix(" %")) / 100 == pytest.approx(prob, abs=MOST_CHANGE + 0.001)
    assert {address.split(":")[0] for address in asked} == {"file", "blob"} and problems == []
    assert all(address.startswith(f"file://{packed}/") for address in asked if address.startswith("file"))
    # and it may not: what is not beside it cannot be loaded
    refused = "fetch('http://127.0.0.1:9/').then(() => 'asked', (error) => error.name)"
    assert page.evaluate(refused) == "TypeError" and any("Content Security Policy" in problem for problem in problems)
    assert page.locator("footer").count() == 0


def test_a_space_is_a_static_one_and_its_page_answers_inside_another_page(bundle, runtime, tmp_path, new_page):
    folder = package(bundle, tmp_path / "space", PackageConfig("space", runtime=runtime)).folder
    card = SpaceCard.load(folder / "README.md")  # the hub client's own reader
    assert (card.data.title, card.data.sdk, card.data.app_file) == ("tiny", "static", "index.html")
    assert len(card.data.short_description) <= 60 and (folder / card.data.app_file).is_file()
    assert "library_name" not in card.content and "## Use" in card.text
    attributes = (folder / ".gitattributes").read_text()  # git refuses files of 10 MB and more there
    assert attributes == "parts/*.js filter=lfs diff=lfs merge=lfs -text\n" and (folder / "parts" / "model.js").is_file()
    (tmp_path / "frame.html").write_text(
        '<iframe src="space/index.html" sandbox="allow-scripts allow-same-origin allow-forms"></iframe>'
    )
    page = new_page()
    with served(tmp_path) as address:
        asked = recorded_requests(page)
        page.goto(f"{address}/frame.html")
        frame = page.frame_locator("iframe")
        frame.get_by_label("Text", exact=True).fill("the price will rise")
        frame.get_by_role("button", name="Classify").click()
        expect(frame.locator("#answer")).to_be_visible()
    with Classifier.open(bundle) as classifier:
        (answer,) = classifier.classify(["the price will rise"])
    expect(frame.locator("#bars .name").first).to_have_text(max(answer.probs, key=answer.probs.get))
    assert all(one.startswith((address, f"blob:{address}")) for one in asked)


@contextmanager
def served(folder):
    """The address of a plain server of files."""
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_node_gives_the_page_s_answers(packed, bundle):
    texts = some_texts(20)
    script = """
        const potstill = require("./node.js");
        potstill.open().then(async (classifier) => {
            const found = [];
            for (const text of JSON.parse(process.argv[1])) found.push(await classifier.probs(text));
            console.log(JSON.stringify({ found, change: classifier.change }));
        });
    """
    said = json.loads(node(script, json.dumps(texts), folder=packed))
    with Classifier.open(bundle) as classifier:
        np.testing.assert_allclose(said["found"], classifier.probs(texts), atol=MOST_CHANGE)
    assert 0 <= said["change"] <= MOST_CHANGE


def test_golden_texts_with_other_probabilities_keep_the_page_from_answering(bundle, runtime, tmp_path, new_page):
    own = tmp_path / "bundle"
    shutil.copytree(bundle, own)
    golden = read_golden(own)
    golden[2] = msgspec.structs.replace(golden[2], probs=[1.0, 0.0, 0.0])
    write_golden(own, golden)
    write_sums(own)
    folder = package(own, tmp_path / "web", PackageConfig("web", runtime=runtime)).folder
    page = new_page()
    page.goto(f"file://{folder}/index.html")
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text("tiny: the golden texts drifted: this browser moves a probability by 0.")
    expect(problem).to_contain_text("at most 0.02 is allowed; the bundle does not answer here")
    page.get_by_label("Text", exact=True).fill("the price will rise")
    page.keyboard.press("Control+Enter")
    expect(problem).to_be_visible()
    assert page.locator("#answer").is_hidden()


def readable(bundle):
    """The bundle with a tokenizer that a page can follow, and the golden answers that it then gives."""
    path = bundle / "tokenizer.json"
    vocabulary = json.loads(path.read_text())["model"]["vocab"]
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    path.write_text(tokenizer.to_str())
    (bundle / "README.md").write_text("# tiny\n\n## Use\n\n## Origin\n")
    write_sums(bundle)
    with Classifier.open(bundle, check=False) as classifier:
        rows = read_golden(bundle)
        probs = [classifier.probs([row.text], None if row.target is None else [row.target])[0].tolist() for row in rows]
    write_golden(bundle, [msgspec.structs.replace(row, probs=row_probs) for row, row_probs in zip(rows, probs, strict=True)])
    write_sums(bundle)
    return bundle


def plain(answer):
    """An answer of Python as the page gives it."""
    found = {"label": answer.label, "probs": answer.probs, "threshold": answer.threshold, "abstain": answer.abstain}
    return found if answer.label_set is None else {**found, "label_set": answer.label_set}


@pytest.mark.parametrize("case", ["thresholds", "target", "sets and bias"])
def test_an_answer_has_python_s_fields(case, runtime, tmp_path, new_page):
    changes = {
        "thresholds": {"thresholds": {"up": 0.3, "flat": 0.9, "down": None}},
        "target": {"target": True},
        "sets and bias": {"conformal": Conformal(coverage=0.9, quantile=0.7, n=100, source="gold")},
    }[case]
    bundle = write_bundle(tmp_path / "bundle", **changes)
    if case == "sets and bias":
        write_manifest(bundle, msgspec.structs.replace(read_manifest(bundle), bias=[0.5, -0.5, 0.1]))
    bundle = readable(bundle)
    folder = package(bundle, tmp_path / "web", PackageConfig("web", runtime=runtime)).folder
    texts = ["rise rise", "fall the price", "stay", "will abc", ""]
    targets = ["the price"] * len(texts) if case == "target" else None
    found = page_of(folder, new_page).evaluate(CLASSIFY, [texts, targets, "sets" in case])
    with Classifier.open(bundle) as classifier:
        expected = [plain(one) for one in classifier.classify(texts, targets, sets="sets" in case)]
    assert len({one["label"] for one in expected}) > 1
    for mine, right in zip(found, expected, strict=True):
        assert mine["probs"] == pytest.approx(right["probs"], abs=1e-4)
        assert {**mine, "probs": 0} == {**right, "probs": 0}


def test_several_questions_are_answered_in_the_page(runtime, tmp_path, new_page):
    bundle = readable(write_bundle(tmp_path / "bundle", heads=some_heads()))
    page = page_of(package(bundle, tmp_path / "web", PackageConfig("web", runtime=runtime)).folder, new_page)
    (found,) = page.evaluate(CLASSIFY, [["rise rise the price"], None, False])
    with Classifier.open(bundle) as classifier:
        (answer,) = classifier.classify(["rise rise the price"])
    assert list(found["questions"]) == list(answer.questions) and found["abstain"] == answer.abstain
    for name, right in answer.questions.items():
        mine = found["questions"][name]
        assert mine["probs"] == pytest.approx(right.probs, abs=1e-4) and mine["kind"] == right.kind
        assert (mine.get("label", ""), mine.get("tags"), mine["abstain"]) == (right.label, right.tags, right.abstain)
        assert mine.get("value") == pytest.approx(right.value, abs=1e-3) if right.value is not None else "value" not in mine
    page.get_by_label("Text", exact=True).fill("rise")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#questions section")).to_have_count(len(answer.questions))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("classify(7)", "a text is number; give a string"),
        ("classify('a', 'b')", "a target is given, but this bundle answers without a target; leave it out"),
    ],
)
def test_a_wrong_call_is_told_what_is_wrong(call, message, packed, new_page):
    page = page_of(packed, new_page)
    assert page.evaluate(f"potstill.open({{check: false}}).then((one) => one.{call}).catch((error) => error.message)") == message


def test_a_cascade_is_refused_and_nothing_is_left(bundle, tmp_path):
    cascade = msgspec.structs.replace(read_manifest(bundle), cascade=object())
    with pytest.raises(UserError, match="is a cascade of two graphs, but the layout web holds one; package one of the two"):
        write_web(bundle, tmp_path, cascade, Runtime(KNOWN, "", b"", ""))
    assert list(tmp_path.iterdir()) == []


def test_without_the_runtime_the_command_says_where_it_is_from(bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("POTSTILL_WEB_RUNTIME", raising=False)
    assert run(["package", str(bundle), str(tmp_path / "web"), "--for", "web"]) == 1
    how = f"get it with: npm pack onnxruntime-web@{KNOWN}, and name the file that npm writes"
    needs = f"the layout web needs onnxruntime-web, which is not part of potstill; {how} as --runtime, or in POTSTILL_WEB_RUNTIME"
    assert needs in capsys.readouterr().err and list(tmp_path.iterdir()) == []
    assert run(["package", str(bundle), str(tmp_path / "web"), "--for", "web", "--runtime", str(tmp_path / "none.tgz")]) == 1
    assert f"{tmp_path / 'none.tgz'}: no such file or folder; {how} as --runtime" in capsys.readouterr().err


def archive(path, files):
    """An archive as npm writes it."""
    source = path.with_suffix("")
    for name, data in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    with tarfile.open(path, "w:gz") as packed:
        packed.add(source, "package")
    return path


RIGHT = {
    "package.json": b'{"name": "onnxruntime-web", "version": "9.0.0", "license": "MIT"}',
    "dist/ort.wasm.bundle.min.mjs": b"export const env = {};",
    "dist/ort-wasm-simd-threaded.wasm": b"\0asm" + b"\1\0\0\0",
}


def test_npm_s_archive_and_the_unpacked_package_are_read_alike(tmp_path):
    path = archive(tmp_path / "web.tgz", RIGHT)
    assert open_runtime(str(path)) == open_runtime(str(tmp_path / "web"))
    assert open_runtime(str(path)).version == "9.0.0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"package.json": b'{"name": "other", "version": "1"}'},
            "package.json: is of 'other'; it must be onnxruntime-web: get it with",
        ),
        ({"package.json": b"no"}, "not valid JSON"),
        ({"dist/ort-wasm-simd-threaded.wasm": b"<html>"}, "dist/ort-wasm-simd-threaded.wasm: is not WebAssembly; get it with"),
        (
            {"dist/ort.wasm.bundle.min.mjs": None},
            "dist/ort.wasm.bundle.min.mjs: is not in the archive, so it is not onnxruntime-web",
        ),
    ],
)
def test_another_package_is_no_runtime(change, message, tmp_path):
    files = {name: data for name, data in {**RIGHT, **change}.items() if data is not None}
    with pytest.raises(FormatError, match=message.replace("(", r"\(")):
        open_runtime(str(archive(tmp_path / "web.tgz", files)))


def test_a_file_that_is_no_archive_is_one_line(tmp_path):
    (tmp_path / "web.tgz").write_text("no archive")
    with pytest.raises(FormatError, match="is not an archive of npm: .*; get it with: npm pack onnxruntime-web@"):
        open_runtime(str(tmp_path / "web.tgz"))

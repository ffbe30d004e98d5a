"""`potstill task show` prints, byte for byte, what the engine is given."""

import sys
from pathlib import Path

import pytest

from potstill.commands.main import run as console
from potstill.contract.task import load_task
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.engine.llama import LlamaEngine
from potstill.labeler.prompts.variants import nearest_examples
from potstill.labeler.run.label import label
from potstill.models.catalog import find_backbone
from potstill.models.gguf import read_header

pytestmark = pytest.mark.slow

TASK_FILE = Path(__file__).parents[3] / "examples" / "market_stance" / "task.toml"
TASK = load_task(TASK_FILE)
TEXT = Text("hm,   I sold\nsome puts 🚀", "0")


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ("--mode direct", LabelConfig(mode="direct")),
        ("--mode direct --seed 3 --examples given --examples-per-label 1", LabelConfig("direct", seed=3, examples="given", n_examples_per_label=1)),
        ("--mode cot --no-guideline", LabelConfig("cot", n_variants=3, guideline=False)),
        ("--mode direct --template chat", LabelConfig("direct", template="chat")),
        ("--mode cot --template chat --no-guideline", LabelConfig("cot", n_variants=2, template="chat", guideline=False)),
        ("--mode cascade --direct 2", LabelConfig("cascade", n_direct=2, n_variants=2, uncertain=1.0)),
        ("--mode direct --examples nearest --examples-per-label 1", LabelConfig("direct", examples="nearest", n_examples_per_label=1)),
    ],
)  # fmt: skip
def test_the_shown_prompt_is_what_the_engine_is_given_in_every_variant(
    smollm2, ruled_teacher, tmp_path: Path, capfd, options, config
):
    teacher = ruled_teacher(lambda prompt, path: [-1.0] * 12, read_header(smollm2).chat_template)
    nearest = None
    if config.examples == "nearest":
        nearest = nearest_examples(TASK, [TEXT], config.n_examples_per_label, find_backbone("all-minilm-l6-v2"))
    label(TASK, [TEXT], tmp_path / "labels.db", teacher, config, nearest=nearest)
    assert teacher.prompts
    for (_, variant), prompt in teacher.prompts.items():
        capfd.readouterr()
        assert console(["task", "show", str(TASK_FILE), TEXT.text, "--variant", str(variant), *options.split()]) == 0
        assert capfd.readouterr().out == prompt + "\n"


def test_the_chat_template_in_the_header_is_the_one_that_the_engine_uses(smollm2):
    engine = LlamaEngine(smollm2)
    try:
        assert read_header(smollm2).chat_template == engine.chat_template != ""
    finally:
        engine.close()


def test_a_teacher_without_a_chat_template_is_refused(tmp_path: Path, capsys):
    teacher = tmp_path / "base.gguf"
    teacher.write_bytes(b"GGUF" + b"\x03\0\0\0" + b"\0" * 56)
    assert console(["task", "show", str(TASK_FILE), "hm", "--template", "chat", "--teacher", str(teacher)]) == 1
    assert capsys.readouterr().err == "potstill: the teacher has no chat template of its own; use --template plain\n"


def test_a_prompt_is_shown_with_a_target_if_and_only_if_the_task_asks_about_one(tmp_path: Path, capsys):
    about = tmp_path / "about.toml"
    about.write_text(
        'format = 1\nname = "n"\nquestion = "Good or bad?"\ninput = {noun = "News", target = true, target_noun = "Company"}\n'
        'labels = [{name = "good"}, {name = "bad"}]\n'
    )
    assert console(["task", "show", str(about), "hm"]) == 1
    assert capsys.readouterr().err == f"potstill: {about}: asks about a target (input.target); state one with --target\n"
    assert console(["task", "show", str(about), "hm", "--target", "Alpha"]) == 0
    assert capsys.readouterr().out.endswith("Company: Alpha\nNews: hm\nAnswer:\n")
    assert console(["task", "show", str(TASK_FILE), "hm", "--target", "Alpha"]) == 1
    assert capsys.readouterr().err == f"potstill: {TASK_FILE}: has no targets (input.target is false); leave out --target\n"


@pytest.mark.parametrize("command", [["task", "show", str(TASK_FILE), "hm"], ["label", str(TASK_FILE), "texts.jsonl", "out"]])
def test_without_torch_nearest_names_the_extra_that_it_needs(tmp_path: Path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    Path("texts.jsonl").write_text('{"text": "hm"}\n')
    monkeypatch.delitem(sys.modules, "potstill.labeler.embeddings", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert console([*command, "--examples", "nearest"]) == 1
    assert (
        capsys.readouterr().err
        == "potstill: the package 'torch' is not installed; install it with: pip install 'potstill[train]'\n"
    )
    assert not Path("out").exists()


def test_a_line_says_what_kind_of_prompt_it_is_and_where_the_label_is_read(capfd):
    said = []
    for options in ("--mode direct", "--mode direct --template chat", "--mode cot --template chat"):
        assert console(["task", "show", str(TASK_FILE), TEXT.text, *options.split()]) == 0
        said.append(capfd.readouterr().err)
    assert said == [
        "a document to continue; the label is read after 'Sentiment:'\n",
        "chat template: a system turn; no thoughts; the label is read after '<|im_end|>\\n<|im_start|>assistant\\nSentiment:'\n",
        "chat template: a system turn; no thoughts; a rationale of up to 40 tokens in the answer; "
        "then the label is read after 'Sentiment:'\n",
    ]


def test_a_header_says_of_a_model_what_its_engine_says(smollm2):
    header, engine = read_header(smollm2), LlamaEngine(smollm2)
    try:
        assert (header.bos, header.eos, header.adds_bos) == (engine.bos, engine.eos, engine.adds_bos)
    finally:
        engine.close()


def test_without_a_mode_it_shows_the_prompt_of_the_teacher_s_best_known_one(capfd):
    shown = []
    for mode in ([], ["--mode", "direct"], ["--mode", "cot"]):
        assert console(["task", "show", str(TASK_FILE), TEXT.text, *mode]) == 0
        shown.append(capfd.readouterr().out)
    assert shown[0] == shown[1] != shown[2]


INTENTS = Path(__file__).parents[3] / "benchmarks" / "questions" / "banking_intents.toml"


def test_a_task_of_many_labels_is_checked_with_a_note_and_shows_the_candidates_of_the_text(capfd):
    assert console(["task", "check", str(INTENTS)]) == 0
    found = capfd.readouterr()
    assert "sound; 77 labels, 154 worked examples" in found.out
    assert "note: 77 labels: a teacher is asked about each text among at most 10" in found.err
    assert console(["task", "show", str(INTENTS), "My card was stolen!", "--mode", "direct"]) == 0
    *examples, text = capfd.readouterr().out.partition("\n\n")[2].strip().split("\n\n")
    assert 2 <= len(examples) <= 10
    assert examples[-1].endswith("\nAnswer: lost or stolen card")
    assert text == "Message: My card was stolen!\nAnswer:"


def test_all_labels_are_shown_where_no_candidates_are_wanted(capfd):
    assert console(["task", "show", str(INTENTS), "My card was stolen!", "--mode", "direct", "--candidates", "0"]) == 0
    assert "\n- age limit: how old one must be" in capfd.readouterr().out


def test_check_counts_the_wordings_and_show_asks_each_in_turn(tmp_path: Path, capsys):
    task = tmp_path / "task.toml"
    task.write_text(TASK_FILE.read_text() + '\n[[wordings]]\nquestion = "Is the author glad?"\nanswer = "Mood"\n')
    assert console(["task", "check", str(task)]) == 0
    assert capsys.readouterr().out.startswith(f"{task}: sound; 3 labels, 2 wordings, 6 worked examples, digest ")
    for variant, cue in (("0", "Sentiment:"), ("1", "Mood:"), ("2", "Sentiment:")):
        assert console(["task", "show", str(task), "hm", "--variant", variant, "--mode", "direct"]) == 0
        assert capsys.readouterr().out.endswith(f"Post: hm\n{cue}\n")

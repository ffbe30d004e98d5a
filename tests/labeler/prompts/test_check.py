"""`potstill models check` says how a teacher is asked in conversations, from its header alone, and what will not work."""

import struct
import tomllib
from pathlib import Path
from types import SimpleNamespace

from potstill.commands.main import run as console

written = SimpleNamespace(**tomllib.loads(Path(__file__).with_name("templates.toml").read_text(encoding="utf-8")))


def packed(text):
    return struct.pack("<Q", len(text)) + text


def written_gguf(path, template):
    words = [b"<unk>", b"<s>", b"</s>"]
    fields = [
        packed(b"general.architecture") + struct.pack("<I", 8) + packed(b"tiny"),
        packed(b"tiny.context_length") + struct.pack("<II", 4, 512),
        packed(b"tokenizer.ggml.model") + struct.pack("<I", 8) + packed(b"llama"),
        packed(b"tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, len(words)) + b"".join(map(packed, words)),
        packed(b"tokenizer.chat_template") + struct.pack("<I", 8) + packed(template.encode()),
    ]
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(fields)) + b"".join(fields))
    return str(path)


def test_a_teacher_that_thinks_is_described_with_both_places(tmp_path, capsys):
    path = written_gguf(tmp_path / "m.gguf", written.SWITCH)
    assert console(["models", "check", path]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: tiny, weights of another type",
        "context 512 tokens; begin token '<s>'; end token '</s>'",
        "chat template: a system turn; thoughts between '<think>' and '</think>'; off with enable_thinking=False",
        r"direct: the label is read after '<|end|><|assistant|><think>\n\n</think>\n\n'",
        r"cot: a thought begins after '<|end|><|assistant|><think>\n'; it ends at '</think>', "
        r"and the label is read after '\n</think>\n\n'",
    ]


def test_what_will_not_work_is_named(tmp_path, capsys):
    for template, line in (
        ("", "will not work: --template chat: the teacher has no chat template of its own; use --template plain"),
        (written.PLAIN, "will not work: --thoughts on: the template has no place for thoughts"),
    ):
        assert console(["models", "check", written_gguf(tmp_path / "m.gguf", template)]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == line


def test_a_file_that_is_no_model_is_one_line(tmp_path, capsys):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"no model")
    assert console(["models", "check", str(path)]) == 1
    assert "is not a GGUF file" in capsys.readouterr().err

"""llama.cpp is loaded by the first call of one of its functions; where it is not installed, a teacher behind a server works all the same."""

import json
import subprocess
import sys

import llama_cpp
import pytest
from support.teachers.model_servers import ToyModel, chat_server

from potstill.contract.errors import MissingExtraError
from potstill.labeler.engine import library

WITHOUT = "import sys; sys.modules['llama_cpp'] = None; from potstill.commands.main import run; raise SystemExit(run(sys.argv[1:]))"
ADVICE = "the package 'llama_cpp' is not installed; install it with: pip install 'potstill[label]'"


def without_llama_cpp(*arguments):
    return subprocess.run([sys.executable, "-c", WITHOUT, *map(str, arguments)], capture_output=True, text=True, timeout=120)


def test_every_name_is_llama_cpp_s_own(monkeypatch):
    assert library.llama_decode is llama_cpp.llama_decode
    assert library.version() == llama_cpp.__version__
    monkeypatch.setattr(llama_cpp, "llama_decode", "another")
    assert library.llama_decode == "another"
    with pytest.raises(AttributeError, match="no_such_function"):
        library.no_such_function  # noqa: B018


def test_where_it_is_not_installed_a_call_names_the_extra_and_asking_for_dunders_does_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(MissingExtraError) as caught:
        library.llama_backend_init()
    assert str(caught.value) == ADVICE
    assert not hasattr(library, "__wrapped__")


@pytest.mark.slow
def test_a_teacher_behind_a_server_labels_without_llama_cpp(repository, tmp_path, scripted_server):
    server = scripted_server(chat_server(ToyModel({"billing": 0.7, "technical": 0.2, "account": 0.06, "shipping": 0.04})))
    texts = tmp_path / "texts.jsonl"
    texts.write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in ("They took the money twice.", "I paid and got no bill."))
    )
    task = repository / "examples" / "support_tickets" / "task.toml"
    out = tmp_path / "out"
    done = without_llama_cpp("label", task, texts, out, "--teacher", server.url, "--api", "chat", "--mode", "direct")
    assert done.returncode == 0, done.stderr
    assert (out / "soft_labels.parquet").is_file()
    shown = without_llama_cpp("labels", "show", out / "labels.db")
    assert shown.returncode == 0, shown.stderr


@pytest.mark.slow
def test_a_teacher_in_this_process_says_once_what_to_install(repository, tmp_path):
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "They took the money twice."}\n')
    done = without_llama_cpp("label", repository / "examples" / "support_tickets" / "task.toml", texts, tmp_path / "out")
    assert (done.returncode, done.stderr) == (1, f"potstill: {ADVICE}\n")

"""The teacher behind the real llama_cpp.server, with the real 135M model, against the same file in this process."""

import itertools
import math
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
from llama_cpp.llama_chat_format import Jinja2ChatFormatter
from scipy.special import log_softmax
from support.teachers.llama_reference import PREFIX, TEXTS, WORDS, SingleSequence, answer_spec, requests

from potstill.contract.errors import UserError
from potstill.labeler.config import LocalConfig
from potstill.labeler.teacher import AnswerSpec, Message, TeacherPath, TooLong, path_seed
from potstill.labeler.teachers.opening import open_local
from potstill.labeler.teachers.remote import open_remote

pytestmark = pytest.mark.slow

spec = partial(answer_spec, max_rationale_tokens=8)
N_CONTEXT = 512


def drawn(teacher, mode: str, paths: int = 1, words: tuple[str, ...] = WORDS, seed: int = 0) -> list[TeacherPath]:
    results = list(teacher.answer(PREFIX[mode], 0, requests(mode, paths), spec(mode, words), seed))
    assert all(isinstance(result, TeacherPath) for result in results)
    return sorted(results, key=lambda path: (path.text_id, path.path))


@pytest.fixture(scope="module")
def real_url(smollm2: Path, tmp_path_factory: pytest.TempPathFactory):
    """The address of a llama_cpp.server that this module starts and ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    options = {"model": smollm2, "host": "127.0.0.1", "port": port, "n_ctx": N_CONTEXT, "n_threads": 2, "verbose": "false"}
    command = [sys.executable, "-m", "llama_cpp.server", *itertools.chain(*((f"--{k}", str(v)) for k, v in options.items()))]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    try:
        url = f"http://127.0.0.1:{port}/v1"
        for _ in range(600):
            assert process.poll() is None, log.read_text()
            try:
                httpx.get(f"{url}/models", trust_env=False, timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def served(real_url: str):
    teacher = open_remote(real_url)
    yield teacher
    teacher.close()


@pytest.fixture(scope="module")
def local(smollm2: Path, tmp_path_factory: pytest.TempPathFactory):
    stated = LocalConfig(n_threads=2, n_batch=512, n_live_paths=8, flash_attention=False, cache=tmp_path_factory.mktemp("cache"))
    teacher = open_local(str(smollm2), pack="as-is", config=stated)
    yield teacher
    teacher.close()


def test_the_server_reads_the_labels_as_the_same_file_does_in_this_process(served, local):
    there, here = drawn(served, "direct"), drawn(local, "direct")
    # batches of other sizes flip roundings of the 4-bit weights' 8-bit activations: up to 0.18 nats here
    np.testing.assert_allclose([p.word_logprobs for p in there], [p.word_logprobs for p in here], atol=0.4)
    assert [(p.text_id, p.path, p.seed, p.rationale, p.n_generated) for p in there] == [
        (p.text_id, p.path, p.seed, p.rationale, p.n_generated) for p in here
    ]
    for path, other in zip(there, here, strict=True):
        assert abs(path.n_prompt_tokens - other.n_prompt_tokens) <= 2  # the prefix's last line breaks merge with what follows


def test_a_word_of_several_tokens_is_read_as_the_same_file_does_in_this_process(served, local):
    words = ("positively", "negative")  # the first is " posit" and "ively" or the like to this vocabulary
    there, here = drawn(served, "direct", words=words), drawn(local, "direct", words=words)
    np.testing.assert_allclose([p.word_logprobs for p in there], [p.word_logprobs for p in here], atol=0.6)


def test_every_sampled_path_ends_in_a_rationale_and_a_distribution_over_the_labels(served):
    paths = drawn(served, "cot", paths=2)
    assert [(p.text_id, p.path) for p in paths] == [(str(i), n) for i in range(len(TEXTS)) for n in range(2)]
    for path in paths:
        assert path.rationale and "\n" not in path.rationale
        assert 0 < path.n_generated <= 8 and path.n_prompt_tokens > 5
        assert path.seed == path_seed(0, path.text_id, path.path)  # this server gives one choice a request, each its own seed
        assert len(path.word_logprobs) == len(WORDS) and all(math.isfinite(x) and x < 0 for x in path.word_logprobs)
        assert 0.3 < sum(map(math.exp, path.word_logprobs)) <= 1 + 1e-6


def test_paths_of_one_text_differ_and_another_run_seed_draws_others(served):
    one = [p.rationale for p in drawn(served, "cot", paths=3)]
    other = [p.rationale for p in drawn(served, "cot", paths=3, seed=1)]
    assert len(set(one)) > len(TEXTS) and one != other


def test_a_text_too_long_for_the_servers_context_gets_no_path_and_the_others_do(served):
    wanted = requests("direct", texts=["word " * N_CONTEXT, "fine by me"])
    results = {r.text_id: r for r in served.answer(PREFIX["direct"], 0, wanted, spec("direct"), 0)}
    assert isinstance(results["1"], TeacherPath)
    assert isinstance(results["0"], TooLong)
    assert N_CONTEXT < results["0"].n_tokens < N_CONTEXT + 20 and 400 < results["0"].n_free < N_CONTEXT


def test_a_prefix_too_long_for_the_servers_context_is_said_before_any_text(served):
    with pytest.raises(UserError) as error:
        next(served.answer("word " * 600, 0, requests("direct"), spec("direct"), 0))
    assert str(error.value).startswith("the prompt's shared part alone is too long for the server's context (This model's maximum ")
    assert str(error.value).endswith("); shorten the guideline or the examples, or start the server with a longer context")


def test_a_server_is_known_by_its_model_and_not_by_its_address_or_folders(real_url, served, smollm2):
    again = open_remote(real_url.replace("127.0.0.1", "localhost"), model=smollm2.name)
    again.close()
    assert again.identity == served.identity
    assert served.identity.name == smollm2.name
    assert served.identity.build == "uvicorn; 100 likely tokens"


def test_the_console_labels_through_a_server(real_url, repository, console, tmp_path):
    task = repository / "examples" / "support_tickets" / "task.toml"
    (tmp_path / "task.toml").write_bytes(task.read_bytes())
    texts = (repository / "examples" / "support_tickets" / "texts.jsonl").read_text(encoding="utf-8").splitlines()[:2]
    (tmp_path / "texts.jsonl").write_text("\n".join(texts), encoding="utf-8")
    words = ["label", "task.toml", "texts.jsonl", "out", "--teacher", real_url, "--mode", "direct", "--paths", "1"]
    done = subprocess.run([*console, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 paths of 2 texts are stored; 2 of them drawn now")


# In a conversation

TURNS = (
    Message("system", "Is the author positive, negative or neutral about the stock? Answer with one word."),
    *(Message(role, content) for role, content in (("user", "up 20% and buying more"), ("assistant", "positive"))),
    *(Message(role, content) for role, content in (("user", "awful quarter, I sold"), ("assistant", "negative"))),
)


def in_turns(mode: str, words: tuple[str, ...] = WORDS) -> AnswerSpec:
    return replace(spec(mode, words), messages=TURNS)


@pytest.fixture(scope="module")
def conversing(real_url: str):
    teacher = open_remote(real_url, api="chat")
    yield teacher
    teacher.close()


@pytest.fixture(scope="module")
def first_words(smollm2: Path):
    """Log-probabilities (nats) of words at the beginning of the turn after these messages, from the logits of one sequence alone."""
    reference = SingleSequence(smollm2, n_ctx=N_CONTEXT)
    llama = reference.llama
    template, eos = llama.metadata["tokenizer.chat_template"], llama.detokenize([llama.token_eos()], special=True).decode()
    render = Jinja2ChatFormatter(template=template, eos_token=eos, bos_token="")

    def logprobs(messages: tuple[Message, ...], words: tuple[str, ...]) -> list[float]:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        prompt = llama.tokenize(render(messages=turns).prompt.encode(), add_bos=False, special=True)
        llama.reset()
        llama.eval(prompt)
        row = log_softmax(np.asarray(llama.scores[len(prompt) - 1], dtype=np.float64))
        # this server does not go on from a turn, so the first token stands for the word
        first = [[llama.tokenize(word.encode(), add_bos=False, special=False)[0] for word in (w, f" {w}")] for w in words]
        return [float(np.logaddexp(*row[tokens])) for tokens in first]

    yield logprobs
    reference.close()


def test_a_conversation_is_read_as_the_same_file_reads_it_in_this_process(conversing, first_words):
    assert conversing.identity.build == "uvicorn; chat, 100 likely tokens"
    asked = requests("direct")
    for path in conversing.answer("", 0, asked, in_turns("direct"), 0):
        turns = (*TURNS, Message("user", asked[int(path.text_id)].prompt))
        listed = list(zip(path.word_logprobs, first_words(turns, WORDS), strict=True))
        np.testing.assert_allclose(*zip(*[pair for pair in listed if pair[1] > -7], strict=True), atol=0.4)
        assert all(found >= expected - 0.4 for found, expected in listed)  # what is not listed has a bound from above


def test_in_a_conversation_a_rationale_is_drawn_and_the_label_read_after_it(conversing):
    paths = list(conversing.answer("", 0, requests("cot", paths=2, texts=TEXTS[:1]), in_turns("cot"), 0))
    assert len(paths) == 2 and all(path.rationale and 0 < path.n_generated <= 8 for path in paths)
    assert all(math.isfinite(x) and x < 0 for path in paths for x in path.word_logprobs)


@pytest.mark.parametrize("api", ["ollama", "decisions", "systemone"])
def test_a_way_that_this_server_does_not_have_is_refused_in_one_line(real_url, api):
    with pytest.raises(UserError, match=rf"cannot be asked by api {api} \(.* answers 404: Not Found\); try api auto$"):
        open_remote(real_url, api=api)

"""Ctrl-C ends a call into C in its middle, and nothing is freed under a call that runs."""

import os
import signal
import threading
import time

import llama_cpp
import pytest

from potstill.labeler.engine.llama import EngineConfig, LlamaEngine, Token
from potstill.labeler.engine.llama_bindings import LongCalls, Sampler, model_params
from potstill.models.gguf import read_header

pytestmark = pytest.mark.slow


@pytest.fixture
def interrupt():
    """Send this process SIGINT after so many seconds, also where it was told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timers: list[threading.Timer] = []

    def later(seconds: float) -> None:
        timers.append(threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)))
        timers[-1].start()

    yield later
    for timer in timers:
        timer.join()
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def calls():
    calls = LongCalls()
    yield calls
    calls.close()


def test_a_call_returns_what_the_function_returns_and_raises_what_it_raises(calls):
    assert calls.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        calls.run(divmod, 7, 0)


def test_an_interrupt_raises_the_flag_waits_for_the_call_and_lowers_the_flag_again(calls, interrupt):
    ended = []

    def until_told():
        while not calls.flag.value:
            time.sleep(0.01)
        ended.append(time.monotonic())

    interrupt(0.1)
    with pytest.raises(KeyboardInterrupt):
        calls.run(until_told)
    assert ended and time.monotonic() >= ended[0]
    assert calls.flag.value == b""
    assert calls.run(int) == 0


def test_closing_waits_for_a_call_that_a_second_interrupt_left_running(calls, interrupt):
    go_on, ended = threading.Event(), []

    def slow():
        ended.append(go_on.wait(60))

    interrupt(0.1)
    interrupt(0.3)
    with pytest.raises(KeyboardInterrupt):
        calls.run(slow)
    assert not ended
    threading.Timer(0.1, go_on.set).start()
    calls.close()
    assert ended == [True]


ABORTED = 2  # what llama_decode returns then


def test_an_interrupt_ends_a_decode_in_its_middle_and_the_engine_can_start_again(smollm2, interrupt, monkeypatch):
    decode, statuses = llama_cpp.llama_decode, []
    monkeypatch.setattr(llama_cpp, "llama_decode", lambda *args: statuses.append(decode(*args)) or statuses[-1])
    engine = LlamaEngine(smollm2)
    engine.start(EngineConfig(n_cells=1024, n_batch=1024, n_sequences=2))
    tokens = [Token(token, i, 0, wants_logits=i == 1023) for i, token in enumerate(engine.tokenize("word " * 1100)[:1024])]
    interrupt(0.05)
    with pytest.raises(KeyboardInterrupt):
        engine.decode(tokens)
    assert statuses == [ABORTED]
    engine.start(EngineConfig(n_cells=256, n_sequences=2, n_batch=256))
    assert engine.decode(tokens[:10]) == []
    engine.close()


@pytest.mark.parametrize("function", ["llama_batch_free", "llama_free", "llama_model_free"])
def test_an_interrupt_while_something_is_freed_frees_nothing_twice(tiny_models, monkeypatch, function):
    freed = []
    free = getattr(llama_cpp, function)

    def interrupted(handle):
        freed.append(handle)
        free(handle)
        raise KeyboardInterrupt  # as Python raises it when the signal came while C was busy

    engine = LlamaEngine(tiny_models["dense"])
    engine.start(EngineConfig(n_cells=256, n_batch=256, n_sequences=2))
    monkeypatch.setattr(llama_cpp, function, interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.close()
    engine.close()
    assert len(freed) == 1


def test_a_sampler_interrupted_while_it_is_freed_is_not_freed_twice(monkeypatch):
    freed = []
    sampler = Sampler(0.5, 1)

    def interrupted(chain):
        freed.append(chain)
        raise KeyboardInterrupt

    monkeypatch.setattr(llama_cpp, "llama_sampler_free", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sampler.close()
    sampler.close()
    assert len(freed) == 1


def test_layers_for_the_gpu_reach_llama_cpp_and_without_a_wish_there_are_none(smollm2):
    header = read_header(smollm2)
    assert [model_params(header, n).n_gpu_layers for n in (0, 7)] == [0, 7]
    assert model_params(header).n_gpu_layers == model_params(None).n_gpu_layers == 0

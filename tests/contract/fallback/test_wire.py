import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.contract.fallback import wire
from potstill.contract.fallback.wire import Greeting, NonsenseError, TeacherQuestion, TeacherReply, read_greeting, read_reply

LABELS = frozenset({"up", "down"})


def test_what_is_encoded_is_read_again():
    reply = TeacherReply(id=3, probs={"up": 0.25, "down": 0.75})
    data = wire.encode(reply)
    assert wire.length(data[:4]) == len(data) - 4
    assert read_reply(data[4:], LABELS) == reply
    greeting = Greeting(format=1, teacher="m", labels=["up", "down"], target=True)
    assert read_greeting(wire.encode(greeting)[4:]) == greeting


def test_a_question_fits_a_frame_whatever_its_text():
    for character in ("\0", "\ud83d", "\U0001f680", '"', "x"):
        question = TeacherQuestion(id=2**53, text=character * 200_000, until_s=1e9, target="\udfff" * 200)
        data = wire.encode(question)
        assert wire.length(data[:4]) == len(data) - 4
        assert len(wire.decode(data[4:], TeacherQuestion).text) == wire.MAX_CHARS


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (b'{"id":1,"probs":{"up":NaN,"down":0.5}}', "no TeacherReply"),
        (b'{"id":1,"probs":{"up":null,"down":0.5}}', "no TeacherReply"),
        (b'{"id":1,"probs":{"up":"1","down":0}}', "no TeacherReply"),
        (b'{"id":"1","probs":{"up":1,"down":0}}', "no TeacherReply"),
        (b'{"id":1,"probs":{"up":1,"down":0},"more":0}', "no TeacherReply"),
        (b'{"id":1,"problem":"tired"}', "no TeacherReply"),
        (b'{"id":1', "no TeacherReply"),
        (b"\xff", "no TeacherReply"),
        (b'{"id":1,"more":' + b"[" * 200_000, "no TeacherReply"),
        (b'{"id":1}', "with neither"),
        (b'{"id":1,"probs":{"up":1,"down":0},"problem":"late"}', "both probabilities and a problem"),
        (b'{"id":1,"probs":{"up":1}}', "other labels"),
        (b'{"id":1,"probs":{}}', "other labels"),
        (b'{"id":1,"probs":{"up":1,"down":0,"flat":0}}', "other labels"),
        (b'{"id":1,"probs":{"up":2,"down":-1}}', "not from 0 to 1"),
        (b'{"id":1,"probs":{"up":1e400,"down":0}}', "no TeacherReply|not from 0 to 1"),
        (b'{"id":1,"probs":{"up":0.5,"down":0.4}}', "do not sum to 1"),
    ],
)
def test_a_reply_that_is_no_distribution_over_the_labels_is_nonsense(reply, problem):
    with pytest.raises(NonsenseError, match=problem):
        read_reply(reply, LABELS)


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_raise(data):
    for read in (lambda: read_reply(data, LABELS), lambda: read_greeting(data), lambda: wire.decode(data, TeacherQuestion)):
        try:
            read()
        except NonsenseError:
            pass


@given(st.floats(0, 1), st.integers(0, 2**62))
def test_every_distribution_over_the_labels_is_read(share, number):
    data = json.dumps({"id": number, "probs": {"up": share, "down": 1 - share}}).encode()
    assert math.isclose(read_reply(data, LABELS).probs["up"], share)


def test_the_length_of_a_frame_is_bounded_before_it_is_read():
    for n in (0, wire.MAX_FRAME_BYTES + 1, 2**32 - 1):
        with pytest.raises(NonsenseError, match=f"a frame of {n} bytes"):
            wire.length(wire.HEAD.pack(n))


def test_a_greeting_of_another_format_is_refused():
    greeting = wire.encode(Greeting(format=2, teacher="m", labels=["up"], target=False))[4:]
    with pytest.raises(NonsenseError, match="a greeting of format 2; this version reads 1"):
        read_greeting(greeting)

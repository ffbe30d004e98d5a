"""What servers say: when they refuse, word for word as they say it, and numbers that are no JSON."""

import json

import pytest

from potstill.labeler.teachers.replies import (
    LEAST_LOGPROB,
    ContextLimit,
    RefusedError,
    decode,
    decode_chat,
    decode_generated,
    words_of,
)

TOO_LONG = {
    # llama_cpp.server 0.3.36
    "llama_cpp": (
        {
            "error": {
                "message": "This model's maximum context length is 512 tokens, however you requested 620 tokens "
                "(600 in your prompt; 20 for the completion). Please reduce your prompt; or completion length.",
                "type": "invalid_request_error",
                "param": "messages",
                "code": "context_length_exceeded",
            }
        },
        ContextLimit(600, 512),
    ),
    # llama-server of the same version
    "llama-server": (
        {
            "error": {
                "code": 400,
                "message": "request (3001 tokens) exceeds the available context size (1024 tokens), try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 3001,
                "n_ctx": 1024,
            }
        },
        ContextLimit(3001, 1024),
    ),
    "vllm": (
        {
            "error": {
                "message": "You passed 4090 input tokens and requested 40 output tokens. However, the model's context length is "
                "only 4096 tokens, resulting in a maximum input length of 4056 tokens. Please reduce the length of the input prompt.",
                "type": "BadRequestError",
                "param": "input_tokens",
                "code": 400,
            }
        },
        ContextLimit(4090, 4096),
    ),
    "vllm, earlier": (
        {"object": "error", "message": "The decoder prompt (length 5000) is longer than the maximum model length of 4096."},
        ContextLimit(5000, 4096),
    ),
    "no numbers": ({"error": "context length exceeded"}, ContextLimit(0, 0)),
}


@pytest.mark.parametrize(("body", "limit"), TOO_LONG.values(), ids=TOO_LONG)
def test_a_prompt_too_long_is_told_from_other_refusals_with_the_numbers_that_are_known(body, limit):
    assert RefusedError(400, json.dumps(body).encode()).limit == limit


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": 400, "message": "Field 'n': Value must be between 1 <= value <= 4, but got 8"}},
        {"detail": [{"loc": ["body", "prompt"], "msg": "field required"}]},
    ],
)
def test_another_refusal_has_no_limit(body):
    assert RefusedError(400, json.dumps(body).encode()).limit is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "no such\\n model"}}', "no such model"),
        (b'{"error": "no such model"}', "no such model"),
        (b'{"object": "error", "message": "no such model"}', "no such model"),
        (b'{"detail": "Invalid API key"}', "Invalid API key"),
        (b'{"detail": [{"msg": "field required"}]}', '[{"msg":"field required"}]'),
        (b"<html>Bad\nGateway</html>", "<html>Bad Gateway</html>"),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (b"", "no explanation"),
        (b"x" * 1000, "x" * 300),
    ],
)
def test_a_servers_explanation_is_found_wherever_it_puts_it(body, words):
    assert words_of(body) == words


LISTED = '[{"token": "a", "logprob": -Infinity}, {"token": "b", "logprob": NaN}, {"token": "c", "logprob": -0.5}]'


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (decode, '{"choices": [{"text": "c", "logprobs": {"top_logprobs": [{"a": -Infinity, "b": NaN, "c": -0.5}]}}]}'),
        (decode, f'{{"choices": [{{"text": "c", "logprobs": {{"content": [{{"token": "c", "top_logprobs": {LISTED}}}]}}}}]}}'),
        (
            decode_chat,
            '{"choices": [{"message": {"content": "c"}, "logprobs": '
            f'{{"content": [{{"token": "c", "logprob": NaN, "top_logprobs": {LISTED}}}]}}}}]}}',
        ),
        (decode_generated, f'{{"response": "c", "logprobs": [{{"token": "c", "top_logprobs": {LISTED}}}]}}'),
    ],
    ids=["completions", "llama-server", "chat", "ollama"],
)
def test_infinite_log_probabilities_are_the_least_and_those_that_are_no_number_are_left_out(read, body):
    assert read(body.encode()).choices[0].listed == {"a": LEAST_LOGPROB, "c": -0.5}


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ('{"prompt_tokens": 50.0, "completion_tokens": 7.0}', (50, 7)),
        ('{"prompt_tokens": null}', (0, 0)),
        ('{"prompt_tokens": NaN, "completion_tokens": -1}', (0, 0)),
        ("null", (0, 0)),
    ],
)
def test_numbers_of_tokens_are_read_as_they_are_meant(usage, counted):
    found = decode(f'{{"choices": [{{"text": "up", "index": 0.0}}], "usage": {usage}}}'.encode())
    assert (found.n_prompt_tokens, found.n_generated) == counted


@pytest.mark.parametrize("logprobs", ["null", "[]", "{}", '{"content": null}', '{"content": []}', '{"top_logprobs": [null]}'])
def test_a_text_that_is_null_is_empty_and_a_list_that_is_empty_is_none(logprobs):
    (choice,) = decode(f'{{"choices": [{{"text": null, "index": null, "logprobs": {logprobs}}}]}}'.encode()).choices
    assert (choice.text, choice.listed) == ("", {})


@pytest.mark.parametrize("body", [b'{"choices": []}', b'{"choices": [{"message": {}}]}', b"<html>", b"", b"[" * 100_000, b"\xff"])
@pytest.mark.parametrize("read", [decode, decode_chat, decode_generated])
def test_another_reply_is_no_answer(read, body):
    with pytest.raises(ValueError, match="."):
        read(body)

"""Which teacher a name or an address opens, and which settings go with it."""

import pytest

from potstill.contract.errors import UserError
from potstill.labeler.teachers.local import LocalConfig
from potstill.labeler.teachers.opening import is_server, open_teacher


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in ("POTSTILL_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def one_model(path, body):
    """The smallest server: a list of one model, and a completion of one word."""
    choice = {"text": " up", "index": 0, "logprobs": None}
    usage = {"prompt_tokens": 9, "completion_tokens": 1}
    completion = {"choices": [choice], "usage": usage, "system_fingerprint": "b7"}
    return 200, {}, {"data": [{"id": "m", "created": 1}]} if path == "/v1/models" else completion


def test_an_address_opens_a_server_and_a_name_a_model_of_this_machine(scripted_server):
    server = scripted_server(one_model)
    teacher = open_teacher(server.url, concurrency=2)
    teacher.close()
    assert teacher.identity.name == "m"
    assert [is_server(name) for name in (server.url, "https://host/v1", "smollm2-135m-instruct", "http.gguf")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("options", [{"config": LocalConfig(n_threads=2)}, {"pack": "Q4_0"}])
def test_settings_of_this_process_do_not_go_with_a_server(options):
    with pytest.raises(UserError) as error:
        open_teacher("http://127.0.0.1:1/v1", **options)
    assert str(error.value) == (
        "pack, threads, parallel and deterministic apply to a teacher in this process only; http://127.0.0.1:1/v1 is a server"
    )


@pytest.mark.parametrize("options", [{"model": "m"}, {"concurrency": 2}, {"api": "chat"}])
def test_settings_of_a_server_do_not_go_with_this_process(options):
    with pytest.raises(UserError) as error:
        open_teacher("smollm2-135m-instruct", **options)
    assert str(error.value) == "model, api and concurrency apply to a server only; 'smollm2-135m-instruct' runs in this process"

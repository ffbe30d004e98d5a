"""Which teacher a name or an address opens, and which settings go with it."""

import pytest

from potstill.contract.errors import UserError
from potstill.labeler.config import LocalConfig
from potstill.labeler.engine.llama import LlamaEngine, LoadConfig
from potstill.labeler.teachers import opening
from potstill.labeler.teachers.opening import is_server, open_local, open_teacher
from potstill.models.devices import Gpu, LlamaBuild, installed_llama


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


@pytest.mark.parametrize(
    "options",
    [
        {"config": LocalConfig(n_threads=2)},
        {"pack": "Q4_0"},
        {"config": LocalConfig(n_gpu_layers=0)},
        {"config": LocalConfig(kv_type="q8_0")},
    ],
)
def test_settings_of_this_process_do_not_go_with_a_server(options):
    with pytest.raises(UserError) as error:
        open_teacher("http://127.0.0.1:1/v1", **options)
    assert str(error.value) == (
        "pack, threads, parallel, GPU layers, KV type and deterministic apply to a teacher in this process only; "
        "http://127.0.0.1:1/v1 is a server"
    )


@pytest.mark.parametrize("options", [{"model": "m"}, {"concurrency": 2}, {"api": "chat"}])
def test_settings_of_a_server_do_not_go_with_this_process(options):
    with pytest.raises(UserError) as error:
        open_teacher("smollm2-135m-instruct", **options)
    assert str(error.value) == "model, api and concurrency apply to a server only; 'smollm2-135m-instruct' runs in this process"


@pytest.fixture
def cpu_only():
    if installed_llama().gpus:
        pytest.skip("llama.cpp has a GPU here")


def test_a_wish_for_layers_on_a_gpu_is_refused_before_anything_is_loaded(tiny_models, tmp_path, cpu_only):
    config = LocalConfig(n_gpu_layers=2, cache=tmp_path)
    with pytest.raises(
        UserError, match=r"^--gpu-layers 2: the installed llama.cpp \(.*\) computes on the CPU only; .* pip install "
    ):
        open_local(str(tiny_models["dense"]), config=config, open_engine=lambda *_: pytest.fail("loaded"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "load", "told"),
    [
        ({}, LoadConfig(3, 3), "3 of 3 layers are on CUDA0 (A Card, 8.0 GB free)"),
        ({"n_gpu_layers": 1}, LoadConfig(1, 1), "1 of 3 layers are on CUDA0 (A Card, 8.0 GB free), the others on the CPU"),
        ({"n_gpu_layers": 0, "kv_type": "q8_0"}, LoadConfig(kv_type="q8_0"), None),
    ],
)
def test_layers_and_type_of_the_cache_reach_the_engine_and_who_answers_says_so(
    tiny_models, tmp_path, monkeypatch, config, load, told
):
    card = Gpu("CUDA0", "A Card", 8 * 10**9, 8 * 10**9)
    monkeypatch.setattr(opening, "installed_llama", lambda: LlamaBuild("0", ("CUDA",), (card,), ()))
    said, asked = [], []

    def open_engine(path, wanted):
        asked.append(wanted)
        return LlamaEngine(path)

    teacher = open_local(
        str(tiny_models["dense"]), config=LocalConfig(cache=tmp_path, **config), tell=said.append, open_engine=open_engine
    )
    teacher.close()
    assert asked == [load]
    assert said == ([told] if told else [])
    assert (teacher.identity.gpu_layers, teacher.identity.kv_type) == (load.n_gpu_layers, load.kv_type)

import pytest

from potstill.models.gguf import Header, read_header
from potstill.models.memory import cell_bytes, megabytes, memory_needed, state_bytes


def a_header(architecture="llama", n_vocab=1000, **sizes):
    """Two layers of width 64 with 8 heads; `a__b` stands for the key `a.b`."""
    plain = {"block_count": 2, "embedding_length": 64, "feed_forward_length": 128, "attention.head_count": 8}
    named = {key.replace("__", "."): value for key, value in sizes.items()}
    return Header(architecture, 1024, 1, 10, None, "", weights_bytes=5000, n_vocab=n_vocab, sizes=plain | named)


@pytest.mark.parametrize(
    ("header", "n_bytes"),
    [
        (a_header(), 2 * 2 * 64 * 2),  # layers, keys and values, width, bytes of a 16-bit float
        (a_header(attention__head_count_kv=2), 2 * 2 * 2 * 8 * 2),
        (a_header(attention__head_count_kv=2, attention__key_length=32, attention__value_length=16), 2 * 2 * (32 + 16) * 2),
        (a_header(attention__head_count_kv=(0, 8)), 2 * 64 * 2),
        (a_header(attention__recurrent_layers=(True, False)), 2 * 64 * 2),
        (a_header(full_attention_interval=2), 2 * 64 * 2),
        (a_header(attention__shared_kv_layers=1), 2 * 64 * 2),
        (a_header("gemma3n", block_count=30), 20 * 2 * 64 * 2),
        (a_header(attention__head_count_kv=1, attention__key_length=40, attention__key_length_mla=20), 2 * 40 * 2),
        (
            a_header(
                attention__key_length=16,
                attention__value_length=16,
                attention__key_length_swa=4,
                attention__value_length_swa=4,
                attention__sliding_window_pattern=(True, False),
            ),
            (4 + 16) * 2 * 8 * 2,
        ),
    ],
)
def test_a_cell_takes_keys_and_values_of_every_layer_that_attends(header, n_bytes):
    assert cell_bytes(header) == n_bytes


def test_an_8_bit_cache_takes_34_bytes_of_64_and_only_for_keys_without_flash_attention():
    assert cell_bytes(a_header(), "q8_0") == cell_bytes(a_header()) * 34 / 64
    assert cell_bytes(a_header(), "q8_0", flash_attention=False) == 2 * 64 * (34 / 32 + 2)


@pytest.mark.parametrize(
    ("header", "numbers"),
    [
        (a_header(), 0),
        (
            a_header("mamba", attention__head_count=0, ssm__conv_kernel=4, ssm__inner_size=128, ssm__state_size=16),
            2 * (3 * 128 + 16 * 128),
        ),
        (
            a_header(
                attention__head_count_kv=(0, 8), ssm__conv_kernel=4, ssm__inner_size=128, ssm__state_size=16, ssm__group_count=1
            ),
            3 * (128 + 2 * 16) + 16 * 128,
        ),
        (a_header("rwkv6", attention__head_count=0, wkv__head_size=16), 2 * 64 * (2 + 16)),
        (a_header("lfm2", attention__head_count_kv=(0, 8), shortconv__l_cache=3), 64 * 2),
        (a_header("kimi-linear", attention__head_count_kv=(0, 8), ssm__conv_kernel=4, kda__head_dim=4), 3 * 3 * 8 * 4 + 4 * 4 * 8),
    ],
)
def test_a_sequence_takes_the_states_of_every_recurrent_layer(header, numbers):
    assert state_bytes(header) == 4 * numbers


def test_each_part_of_the_need_grows_with_what_it_holds():
    few, many = (memory_needed(a_header(), n) for n in (256, 1024))
    assert many.cache_bytes == 4 * few.cache_bytes and many.weights_bytes == few.weights_bytes == 5000
    assert memory_needed(a_header(), 1).cache_bytes == few.cache_bytes  # llama.cpp rounds up to 256 cells
    plain = memory_needed(a_header(), 256, flash_attention=False)
    assert plain.compute_bytes - few.compute_bytes == 512 * 256 * (4 * 8 + 9 - 2)  # the scores of 8 heads, and wider masks
    assert few.total_bytes == few.weights_bytes + few.cache_bytes + few.compute_bytes


def test_the_need_is_said_in_three_numbers():
    text = memory_needed(a_header(n_vocab=100_000), 4096).as_text()
    assert text == "weights 0 MB, cache 2 MB, work space 81 MB"
    assert (megabytes(999_499_999), megabytes(4.06e9)) == ("999 MB", "4.1 GB")


def test_the_header_of_the_real_teacher_gives_the_sizes_that_its_makers_state(smollm2):
    header = read_header(smollm2)
    assert header.weights_bytes == 96576768
    assert header.n_vocab == 49152
    assert cell_bytes(header) == 30 * 2 * 3 * 64 * 2  # layers, keys and values, heads, width, bytes
    assert state_bytes(header) == 0

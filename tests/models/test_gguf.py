import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.contract.errors import FormatError
from potstill.models.gguf import read_header


def packed(text):
    return struct.pack("<Q", len(text)) + text


def gguf(fields=b"", n_fields=0, tensors=b"", n_tensors=0, version=3, data=b""):
    head = b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_fields) + fields + tensors
    return head + b"\0" * (-len(head) % 32) + data


def tensor(name=b"w", shape=(32, 2), kind=8, offset=0):
    return packed(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def string_field(key, text):
    return packed(key) + struct.pack("<I", 8) + packed(text)


def read(tmp_path, data):
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    return read_header(path)


def test_the_real_teacher_says_what_it_is(smollm2):
    header = read_header(smollm2)
    assert (header.architecture, header.n_ctx_train, header.n_tensors) == ("llama", 8192, 272)


def test_the_declared_length_of_the_real_teacher_is_its_length_to_the_byte(smollm2):
    assert read_header(smollm2).n_bytes == smollm2.stat().st_size


def test_every_kind_of_field_is_read_past(tmp_path):
    scalars = [(0, "B"), (1, "b"), (2, "H"), (3, "h"), (4, "I"), (5, "i"), (6, "f"), (7, "?"), (10, "Q"), (11, "q"), (12, "d")]
    fields = string_field(b"general.architecture", b"tiny")
    for kind, letter in scalars:
        fields += packed(f"k{kind}".encode()) + struct.pack("<I" + letter, kind, 1)
    fields += packed(b"numbers") + struct.pack("<IIQ3I", 9, 4, 3, 1, 2, 3)
    fields += packed(b"words") + struct.pack("<IIQ", 9, 8, 2) + packed(b"a") + packed(b"bc")
    fields += packed(b"tiny.context_length") + struct.pack("<II", 4, 77)
    header = read(tmp_path, gguf(fields, 1 + len(scalars) + 3))
    assert (header.architecture, header.n_ctx_train) == ("tiny", 77)


def tokenizer(**stated):
    """Fields of a vocabulary with four tokens."""
    words = [b"<unk>", b"<s>", b"</s>", b"<|end|>"]
    fields = [packed(b"tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, len(words)) + b"".join(map(packed, words))]
    for key, value in stated.items():
        name = f"tokenizer.ggml.{key}".encode()
        if isinstance(value, bytes):
            fields.append(string_field(name, value))
        elif isinstance(value, bool):
            fields.append(packed(name) + struct.pack("<I?", 7, value))
        else:
            fields.append(packed(name) + struct.pack("<II", 4, value))
    return gguf(b"".join(fields), len(fields))


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, ("", "", False)),
        ({"model": b"llama"}, ("<s>", "</s>", True)),  # as llama.cpp takes a SentencePiece vocabulary
        ({"model": b"llama", "add_bos_token": False, "eos_token_id": 3}, ("<s>", "<|end|>", False)),
        ({"model": b"gpt2", "pre": b"llama-bpe", "bos_token_id": 1, "eos_token_id": 2}, ("<s>", "</s>", True)),
        ({"model": b"gpt2", "pre": b"qwen2", "bos_token_id": 1, "eos_token_id": 2}, ("<s>", "</s>", False)),
        ({"model": b"gpt2", "bos_token_id": 4, "eos_token_id": 2, "add_bos_token": True}, ("", "</s>", True)),
    ],
)
def test_the_begin_and_end_tokens_are_read_as_the_vocabulary_spells_them(tmp_path, stated, expected):
    header = read(tmp_path, tokenizer(**stated))
    assert (header.bos, header.eos, header.adds_bos) == expected


def test_a_file_that_holds_a_vocabulary_alone_needs_no_padding(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf(string_field(b"general.architecture", b"tiny"), 1)[: 24 + 8 + 20 + 4 + 8 + 4])
    assert read_header(path).architecture == "tiny"


def test_a_model_without_a_stated_context_has_none(tmp_path):
    assert read(tmp_path, gguf()).n_ctx_train is None


def test_a_tensor_of_an_unknown_type_makes_no_good_file_look_short(tmp_path):
    assert read(tmp_path, gguf(tensors=tensor(kind=99), n_tensors=1)).n_tensors == 1


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is not a GGUF file: it does not start with 'GGUF'; name a .gguf file"),
        (b"PK\x03\x04" * 9, "is not a GGUF file: it does not start with 'GGUF'; name a .gguf file"),
        (b"GGUF", "is truncated: it has 4 bytes, its header needs at least 8; fetch it again"),
        (gguf(version=1), "is GGUF version 1; versions 2 and 3 are read; fetch a newer file"),
        (gguf()[:20], "is truncated: it has 20 bytes, its header needs at least 24; fetch it again"),
        (gguf(n_fields=1), "is truncated: it has 32 bytes, its header needs at least 36; fetch it again"),
        (gguf(packed(b"k") + struct.pack("<I", 13), 1), "is damaged: its header has a value of unknown type 13; fetch it again"),
        (gguf(packed(b"k") + struct.pack("<IIQ", 9, 9, 1), 1), "is damaged: its header has an array of arrays; fetch it again"),
        (
            gguf(tensors=tensor(shape=(2,) * 5), n_tensors=1),
            "is damaged: a tensor has 5 dimensions; at most 4 are allowed; fetch it again",
        ),
        (
            gguf(packed(b"general.alignment") + struct.pack("<II", 5, 2**32 - 32), 1),
            "is damaged: its alignment is -32; fetch it again",
        ),
        (gguf(string_field(b"general.alignment", b"32"), 1), "is damaged: its alignment is '32'; fetch it again"),
        (
            gguf(struct.pack("<Q", 2**60), 1),
            f"is truncated: it has 32 bytes, its header needs at least {2**60 + 32}; fetch it again",
        ),
        (
            gguf(tensors=tensor(), n_tensors=1, data=b"\0" * 67),
            "is truncated: it has 163 bytes, its header needs at least 164; fetch it again",
        ),
    ],
)
def test_a_damaged_file_is_refused_with_what_is_wrong(tmp_path, data, problem):
    with pytest.raises(FormatError) as caught:
        read(tmp_path, data)
    assert str(caught.value) == f"{tmp_path / 'm.gguf'}: {problem}"


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4))
@settings(deadline=1000)
def test_flipped_bits_in_a_header_are_refused_in_one_line_or_do_no_harm(tmp_path_factory, flips):
    fields = string_field(b"general.architecture", b"tiny") + packed(b"general.alignment") + struct.pack("<II", 4, 32)
    fields += packed(b"words") + struct.pack("<IIQ", 9, 8, 2) + packed(b"a") + packed(b"bc")
    data = bytearray(gguf(fields, 3, tensor() + tensor(b"v", offset=96), 2, data=b"\0" * 200))
    for place, bits in flips:
        data[place % (len(data) - 200)] ^= bits
    try:
        read(tmp_path_factory.mktemp("flipped"), bytes(data))
    except FormatError as error:
        assert "m.gguf: " in str(error)


def test_a_file_that_is_whole_to_the_byte_passes(tmp_path):
    assert read(tmp_path, gguf(tensors=tensor(), n_tensors=1, data=b"\0" * 68)).n_bytes == 164


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(FormatError) as caught:
        read_header(tmp_path / "none.gguf")
    assert str(caught.value) == f"{tmp_path / 'none.gguf'}: no such file; check the path"


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.5, 0.999999])
def test_the_real_teacher_cut_anywhere_is_refused(smollm2, tmp_path, share):
    size = int(smollm2.stat().st_size * share)
    with smollm2.open("rb") as file, (tmp_path / "cut.gguf").open("wb") as cut:
        cut.write(file.read(min(size, 4_000_000)))
        cut.truncate(size)  # a hole in place of the rest, which the header does not reach
    with pytest.raises(FormatError, match="is truncated"):
        read_header(tmp_path / "cut.gguf")

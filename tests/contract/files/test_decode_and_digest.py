import hashlib

import pytest

from potstill.contract.errors import FormatError
from potstill.contract.files import decode, digest
from potstill.contract.files.decode import Strict


def test_a_digest_is_the_sha256_of_the_bytes(tmp_path):
    # FIPS 180-4, the one-block example.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "a").write_bytes(b"abc")
    assert digest.of_bytes(b"abc") == digest.of_file(tmp_path / "a") == expected


def test_a_large_file_has_the_digest_of_its_bytes(tmp_path):
    data = bytes(range(256)) * 10_000
    (tmp_path / "a").write_bytes(data)
    assert digest.of_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_the_order_of_keys_does_not_change_a_value_and_the_order_of_a_list_does():
    assert digest.of_value({"a": 1, "b": {"c": 2, "d": 3}}) == digest.of_value({"b": {"d": 3, "c": 2}, "a": 1})
    assert digest.of_value([1, 2]) != digest.of_value([2, 1])


def test_a_folder_s_digest_changes_with_its_files_their_names_and_nothing_else(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"1")
    first = digest.of_path(tmp_path)
    (tmp_path / "b").write_bytes(b"2")
    assert digest.of_path(tmp_path) != first
    (tmp_path / "b").rename(tmp_path / "c")
    (tmp_path / "c").unlink()
    assert digest.of_path(tmp_path) == first
    (tmp_path / "in" / "a").rename(tmp_path / "a")
    assert digest.of_path(tmp_path) != first


def test_a_file_s_digest_as_a_path_is_that_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    assert digest.of_path(tmp_path / "a") == digest.of_bytes(b"1")


class Inner(Strict):
    name: str = ""


class Outer(Strict):
    labels: list[Inner] = []


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"{", "row 3: not valid JSON: "),
        (b'{"labels": [{}, {"name": 1}]}', "row 3: labels[1].name: expected `str`, got `int`"),
        (b'{"label": []}', "row 3: unknown key 'label'"),
        (b"[]", "row 3: expected `object`, got `array`"),
    ],
)
def test_an_error_in_json_names_file_place_and_field(tmp_path, data, told):
    with pytest.raises(FormatError) as caught:
        decode.json(tmp_path / "a.json", data, Outer, "row 3")
    assert str(caught.value).startswith(f"{tmp_path / 'a.json'}: {told}")


def test_text_that_utf8_cannot_hold_is_replaced_and_all_other_text_stays():
    assert decode.encodable("a \ud83d b \udc00") == "a ? b ?"
    assert decode.encodable("naïve 🚀 \0 \ufffd") == "naïve 🚀 \0 \ufffd"

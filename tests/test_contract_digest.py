import hashlib

from contract import digest


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

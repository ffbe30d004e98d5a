"""Requests of every protocol of the server, made from sound ones by changing them; `protocol_fuzz.py` sends them."""

from __future__ import annotations

import gzip
import json
import random
import struct
from collections.abc import Callable
from urllib.parse import quote

LONG = [10_000, 300_000]  # characters
STRINGS = [
    "", " ", "price rise", "\x00", "\u200b\u2060", "\ufeff", "😀", "e\u0301" * 9, "שלום", "\ud83d", "null", "../..",
    "a\r\nb: c", "'\"<&>",
]  # fmt: skip
NUMBERS = [
    0, -1, 1, 2, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30, 0.5, 1e308, -1e308, 1e-320, float("inf"), float("nan"),
]  # fmt: skip
HEADERS = [
    b"Content-Type: text/plain", b"Content-Type: \xff", b"Accept: */*;q=nan", b"Accept-Encoding: br, gzip;q=9",
    b"Expect: 100-continue", b"Content-Encoding: gzip", b"Content-Encoding: deflate", b"Content-Encoding: br",
    b"Content-Encoding: gzip, gzip",
    b"Inference-Header-Content-Length: 3", b"Inference-Header-Content-Length: -1",
    b"Inference-Header-Content-Length: 1e3",
    b"Inference-Header-Content-Length: 99999999999999999999", b"Authorization: Bearer \xc3\x28", b"Authorization: Basic",
    b"X-API-Key:",
    b"traceparent: 00-zz-1-1", b"traceparent: " + b"0" * 3000, b"Origin: null", b"Host: localhost",
    b"Connection: upgrade\r\nUpgrade: h2c",
    b"Transfer-Encoding: identity", b"Range: bytes=0-", b"If-None-Match: *", b"Cookie: " + b"a" * 8000,
    b"Connection: close", b"X-Odd: \x7f",
]  # fmt: skip
METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"BREW", b"get"]
Value = object


# Requests


def odd_value(rng: random.Random, depth: int = 0) -> Value:
    """Any value of JSON."""
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(STRINGS)
    if kind < 0.6:
        return rng.choice(NUMBERS)
    if kind < 0.7:
        return rng.choice([None, True, False])
    if kind < 0.73:
        return rng.choice("aŠ \u200b漢") * rng.choice(LONG)
    if depth > 3:
        return []
    if kind < 0.9:
        one = odd_value(rng, depth + 1)
        return [one] * rng.choice([0, 1, 2, 64, 65, 3000]) if len(repr(one)) < 100 else [one]
    return {str(rng.choice(STRINGS)): odd_value(rng, depth + 1) for _ in range(rng.randint(0, 3))}


def changed(value: Value, rng: random.Random) -> Value:
    """The value with one of its parts changed, left out or added."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        found, key = dict(value), rng.choice(list(value))
        way = rng.random()
        if way < 0.75:
            found[key] = changed(found[key], rng)
        elif way < 0.9:
            found[str(odd_value(rng))[:50]] = odd_value(rng)
        else:
            del found[key]
        return found
    if isinstance(value, list) and value and rng.random() < 0.8:
        found, at = list(value), rng.randrange(len(value))
        way = rng.random()
        if way < 0.7:
            found[at] = changed(found[at], rng)
        elif way < 0.9:
            found *= rng.choice([0, 2, 40, 70])
        else:
            found.insert(at, odd_value(rng))
        return found
    return odd_value(rng)


def encoded(value: Value, *, escaped: bool = False) -> bytes:
    """JSON, with NaN and lone surrogates as Python writes them. Args: escaped, whether all that is not ASCII is."""
    text = json.dumps(value, ensure_ascii=escaped)
    return text.encode("utf-8", "surrogatepass")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to three changes."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at, way = rng.randrange(len(out) + 1), rng.random()
        if way < 0.4:
            out[at : at + 1] = bytes([rng.randrange(256)])
        elif way < 0.6:
            del out[at : at + rng.randint(1, 30)]
        elif way < 0.8:
            out[at:at] = rng.choice([b"\r\n", b"\n", b"\x00", b" ", b":", b"{", b"[", b'"', b"\\u", b"9" * 30, b"\xed\xa0\x80"])
        else:
            out[at:at] = out[at : at + rng.randint(1, 40)] * rng.randint(1, 3)
    return bytes(out)


def request(method: bytes, path: bytes, body: bytes = b"", headers: tuple[bytes, ...] = ()) -> bytes:
    """A whole request; its length is right."""
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: localhost", *headers]
    if body or method in (b"POST", b"PUT", b"PATCH"):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def varied(rng: random.Random, method: bytes, path: bytes, body: bytes = b"", headers: tuple[bytes, ...] = ()) -> bytes:
    """The request, now and then with other headers, method or path, or with a compressed body."""
    if body and rng.random() < 0.1:
        body, headers = gzip.compress(body, 1), (*headers, b"Content-Encoding: gzip")
        body = damaged(body, rng) if rng.random() < 0.5 else body
    if rng.random() < 0.15:
        headers = (*headers, rng.choice(HEADERS))
    if rng.random() < 0.03:
        method = rng.choice(METHODS)
    if rng.random() < 0.05:
        odd = rng.choice(
            [b"?a=%00", b"?" + b"q" * 3000, b"/", b"/..", b"%2f", b"//", b";x", b"#f", b"%ff", b"%zz", quote("名").encode()]
        )
        path += odd
    return request(method, path, body, headers)


def json_of(*choices: tuple[str, Value]) -> Callable[[random.Random], bytes]:
    """Requests with a changed JSON body. Args: choices, (path, sound body)."""

    def make(rng: random.Random) -> bytes:
        path, value = rng.choice(choices)
        for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
            value = changed(value, rng)
        body = encoded(value, escaped=rng.random() < 0.3)[:900_000]
        return varied(rng, b"POST", path.encode(), damaged(body, rng) if rng.random() < 0.25 else body)

    return make


TEXTS = ["the price will rise", "fall", "stay"]
native = json_of(
    ("/classify", {"text": "rise", "timing": True, "timeout_ms": 900.0, "sets": False}),
    ("/bundles/two/classify", {"texts": TEXTS, "targets": TEXTS, "timeout_ms": 50}),
    ("/bundles/one/classify", {"text": "rise", "target": "acme"}),
    ("/bundles/no/classify", {"text": "rise"}),
)
tei = json_of(
    ("/predict", {"inputs": "rise", "raw_scores": True, "truncate": False, "truncation_direction": "left"}),
    ("/", {"inputs": [["rise", "acme"], ["fall"]], "truncate": True}),
    ("/invocations", {"inputs": [[one] for one in TEXTS], "parameters": None}),
    ("/bundles/two/predict", {"inputs": TEXTS[:2]}),
    ("/bundles/two/questions/topics/predict", {"inputs": [[one] for one in TEXTS], "raw_scores": False}),
    ("/questions/sure/predict", {"inputs": "rise"}),
)


def asked(*values: Value) -> dict[str, Value]:
    """A question of a decision model."""
    return {"type": "choice", "name": "stance", "instructions": "Where to?", "choices": [{"value": value} for value in values]}


STANCES = ("bullish", "bearish", "neutral")
decisions = json_of(
    ("/v1/decisions", {"model": "m", "input": "rise", "questions": [asked(*STANCES), asked(True, False)]}),
    (
        "/bundles/two/v1/decisions",
        {
            "model": "m",
            "input": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "input_text", "text": "rise"}, {"type": "input_json", "data": {"a": [1]}}]},
            ],
            "questions": [asked("up", "flat", "down"), {"type": "predicate", "name": "two", "instructions": "It rises."}],
        },
    ),
    (
        "/v1/decisions",
        {
            "model": "m",
            "input": [{"type": "message", "role": "user", "content": "fall"}],
            "questions": [{"type": "score", "instructions": [], "levels": [{"label": "low"}, {"label": "high"}]}],
        },
    ),
    (
        "/v1/decisions",
        {
            "model": "m",
            "input": "fall",
            "questions": [
                {"type": "predicate", "name": "topics/chart", "instructions": "It has a chart."},
                {"type": "predicate", "name": "asks", "instructions": "It asks."},
                {
                    "type": "score",
                    "name": "sure",
                    "instructions": "?",
                    "levels": [{"label": one} for one in ("low", "middle", "high")],
                },
            ],
        },
    ),
)


def tensor(n: int) -> dict[str, Value]:
    """An input of n texts."""
    return {"name": "text", "shape": [n, 1], "datatype": "BYTES", "data": TEXTS[:n], "parameters": {"content_type": "str"}}


inference = json_of(
    *(
        (
            path,
            {
                "id": "1",
                "inputs": [tensor(n)],
                "outputs": [{"name": "probs", "parameters": {"binary_data": n == 2}}, {"name": "label"}],
            },
        )
        for n, path in ((1, "/v2/models/one/infer"), (2, "/v2/models/two/versions/1/infer"), (3, "/v2/models/one/infer"))
    ),
    ("/v2/models/one/infer", {"inputs": [tensor(2)], "parameters": {"timeout": 1000000, "binary_data_output": True}}),
)


def binary(rng: random.Random) -> bytes:
    """`infer` with texts behind the JSON, as tritonclient sends them."""
    texts = [rng.choice(STRINGS).encode("utf-8", "surrogatepass") for _ in range(rng.randint(0, 4))]
    data = b"".join(struct.pack("<I", len(one)) + one for one in texts)
    if rng.random() < 0.4:
        data = damaged(data, rng)
    size = len(data) if rng.random() < 0.8 else rng.choice([0, -1, 2**40, "3", None, len(data) + 1])
    one = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    value: Value = {
        "inputs": [one],
        "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in ("probs", "label")],
    }
    head = encoded(changed(value, rng) if rng.random() < 0.4 else value)
    n_json = len(head) if rng.random() < 0.8 else rng.choice([0, 1, len(head) - 1, len(head) + 1, 10**12])
    return varied(rng, b"POST", b"/v2/models/one/infer", head + data, (b"Inference-Header-Content-Length: %d" % n_json,))


LOOKUPS = [
    "/livez", "/readyz", "/metrics", "/openapi.json", "/bundles", "/", "/playground.css", "/playground.js",
    "/health", "/ping", "/info",
    "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/one", "/v2/models/two/ready", "/v2/models/one/versions/1/ready",
]  # fmt: skip


def lookups(rng: random.Random) -> bytes:
    """Health, metrics, bundles, the page, the description, metadata of models: other methods, paths, bodies and headers."""
    path = rng.choice(LOOKUPS).encode()
    way = rng.random()
    if way < 0.2:
        path = quote(damaged(path, rng), safe="/%?=&").encode() or b"/"
    elif way < 0.3:
        path = b"/" + b"/".join(quote(rng.choice(STRINGS).encode("utf-8", "replace")).encode() for _ in range(rng.randint(0, 6)))
    path = path if path.startswith(b"/") else b"/" + path
    method = rng.choice(METHODS) if rng.random() < 0.3 else b"GET"
    headers = tuple(rng.choice(HEADERS) for _ in range(rng.choice([0, 0, 1, 2])))
    return varied(rng, method, path, b"{}" if rng.random() < 0.1 else b"", headers)


def http(rng: random.Random) -> bytes:
    """Whole requests, also chunked ones, with changed bytes and lines: lengths, chunks and heads no longer fit."""
    body = encoded({"text": "rise"})
    if rng.random() < 0.5:
        cut = rng.randrange(len(body))
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:cut], body[cut:]) if part)
        whole = (
            b"POST /classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nX-T: a\r\n\r\n"
        )
    else:
        whole = rng.choice([native, tei, decisions, lookups])(rng)[:20_000]
    way = rng.random()
    if way < 0.6:
        return damaged(whole, rng)
    lines = whole.split(b"\r\n")
    at = rng.randrange(len(lines))
    if way < 0.8:
        lines[at:at] = [
            rng.choice(
                [
                    *HEADERS,
                    b"Content-Length: 5",
                    b"Content-Length: +5",
                    b"Transfer-Encoding: chunked",
                    b" folded",
                    b"X:" + b"y" * 40_000,
                ]
            )
        ]
    elif way < 0.9:
        del lines[at]
    else:
        rng.shuffle(lines)
    return rng.choice([b"\r\n", b"\r\n", b"\n", b"\r"]).join(lines)


PROTOCOLS = {
    "native": native,
    "decision models": decisions,
    "text-embeddings-inference": tei,
    "Open Inference, JSON": inference,
    "Open Inference, binary": binary,
}
PROTOCOLS |= {"lookups": lookups, "http": http}

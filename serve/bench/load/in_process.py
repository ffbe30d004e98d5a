"""What a server's figures are held against: the same classifier, in this process, with no server between."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections.abc import Sequence
from statistics import median

from potstill.contract.system.cores import usable_cores
from potstill.contract.texts import Text
from potstill.serve.bench.load.client import Address
from potstill.serve.runtime.classifier import Classifier

TURN = 20  # answers
TOKENS = 32  # of the text whose way over HTTP is timed


def in_process_rps(classifier: Classifier, texts: list[Text], seconds: float) -> float:
    """Texts a second of as many threads as there are usable cores."""
    end_s = time.perf_counter() + seconds
    counts = [0] * usable_cores()

    def work(index: int) -> None:
        """One thread."""
        for text in itertools.cycle(texts[index:] + texts[:index]):
            if time.perf_counter() >= end_s:
                return
            classifier.classify([text.text], None if text.target is None else [text.target])
            counts[index] += 1

    start_s = time.perf_counter()
    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(counts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start_s)


def added_p50_ms(address: Address, classifier: Classifier, text: Text, request: bytes, n: int) -> tuple[float, float]:
    """(median over HTTP, median in process) of one text, in milliseconds.

    They take turns, so that both meet the same machine, and each turn has a few answers, so that both find their own code and
    weights in the caches, as whoever only serves does.

    Args:
        address: of the server.
        classifier: of the same bundle.
        text: what is classified.
        request: the same as a whole HTTP request.
        n: how often.
    """
    connection = http.client.HTTPConnection(address.host, address.port, timeout=60)
    connection.connect()
    try:
        http_ms, own_ms = [], []
        targets = None if text.target is None else [text.target]
        for begin in range(0, n, TURN):
            times = range(begin, min(begin + TURN, n))
            http_ms += [_round_trip_ms(connection, request) for _ in times]
            for _ in times:
                start = time.perf_counter()
                classifier.classify([text.text], targets)
                own_ms.append((time.perf_counter() - start) * 1e3)
    finally:
        connection.close()
    return median(http_ms), median(own_ms)


def text_of(classifier: Classifier, texts: Sequence[Text], n_tokens: int = TOKENS) -> Text:
    """A text of about that many tokens, made of the words of these."""
    words = " ".join(text.text for text in texts).split() or ["text"]
    target = texts[0].target
    most = min(n_tokens, classifier.manifest.max_tokens)
    taken: list[str] = []
    for word in itertools.islice(itertools.cycle(words), 10 * n_tokens):
        if classifier.tokenize.ids(" ".join([*taken, word]), target)["input_ids"].shape[1] > most:
            break
        taken.append(word)
    return Text(" ".join(taken) or words[0], target=target)


def _round_trip_ms(connection: http.client.HTTPConnection, request: bytes) -> float:
    """One request and its reply on the bare socket, without a library's parsing."""
    start = time.perf_counter()
    connection.sock.sendall(request)
    reply = connection.sock.recv(65536)
    head, _, body = reply.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    while len(body) < length:
        body += connection.sock.recv(65536)
    return (time.perf_counter() - start) * 1e3

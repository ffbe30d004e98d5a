"""Baselines for a server's figures: the same classifier in this process, with no server in between."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from statistics import median

from potstill.contract.texts import Text, texts_and_targets
from potstill.serve.bench.load.client import Address
from potstill.serve.runtime.classifier import Classifier

TURN = 20  # answers in a row, before the other side's turn


def in_process_rps(classifier: Classifier, texts: list[Text], seconds: float, n_threads: int) -> float:
    """Texts per second that the classifier answers in several threads.

    Args:
        classifier: shared by the threads.
        texts: at least one; repeated as long as the time lasts.
        seconds: how long to measure, in seconds, above 0.
        n_threads: at least 1.
    """
    end_s = time.perf_counter() + seconds
    counts = [0] * n_threads

    def work(index: int) -> None:
        """Answer in one thread until the time is up."""
        for text in itertools.cycle(texts[index:] + texts[:index]):
            if time.perf_counter() >= end_s:
                return
            classifier.classify([text.text], None if text.target is None else [text.target])
            counts[index] += 1

    start_s = time.perf_counter()
    threads = [threading.Thread(target=work, args=(index,)) for index in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start_s)


def http_and_in_process_p50_ms(address: Address, classifier: Classifier, text: Text, request: bytes, n: int) -> tuple[float, float]:
    """(median over HTTP, median in process) of one text, in milliseconds.

    Both sides take turns, so that both share the machine's conditions. A turn has several answers, so that each side finds its own
    code and weights in the caches, as it would without the other.

    Args:
        address: the server's.
        classifier: of the same bundle.
        text: the text to classify.
        request: the same text as a complete HTTP request.
        n: number of answers on each side.
    """
    connection = http.client.HTTPConnection(address.host, address.port, timeout=60)
    connection.connect()
    texts, targets = texts_and_targets([text])
    try:
        http_ms, own_ms = [], []
        for begin in range(0, n, TURN):
            times = range(begin, min(begin + TURN, n))
            http_ms += [_round_trip_ms(connection, request) for _ in times]
            for _ in times:
                start = time.perf_counter()
                classifier.classify(texts, targets)
                own_ms.append((time.perf_counter() - start) * 1e3)
    finally:
        connection.close()
    return median(http_ms), median(own_ms)


def _round_trip_ms(connection: http.client.HTTPConnection, request: bytes) -> float:
    """Milliseconds of one request and its reply on the bare socket, without a library's parsing."""
    start = time.perf_counter()
    connection.sock.sendall(request)
    reply = connection.sock.recv(65536)
    head, _, body = reply.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    while len(body) < length:
        body += connection.sock.recv(65536)
    return (time.perf_counter() - start) * 1e3

"""LitServe with one worker per core: python litserve_onnx.py BUNDLE PORT"""

import os
import sys

import litserve
from plain_session import PlainSession


class Student(litserve.LitAPI):
    """The student behind LitServe's `/predict`."""

    def setup(self, device: str) -> None:
        """Open the bundle in a worker."""
        self.session = PlainSession(sys.argv[1])

    def decode_request(self, request: dict) -> str:
        """The text."""
        return request["text"]

    def predict(self, text: str) -> dict:
        """Probabilities by label."""
        return self.session.probs(text)

    def encode_response(self, probs: dict) -> dict:
        """The reply."""
        return {"probs": probs}


if __name__ == "__main__":
    n_cores = len(os.sched_getaffinity(0))
    server = litserve.LitServer(Student(), accelerator="cpu", workers_per_device=n_cores)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")

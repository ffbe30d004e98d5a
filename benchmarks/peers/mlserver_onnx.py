"""MLServer with a custom runtime, one worker process per core: python mlserver_onnx.py BUNDLE PORT"""

import asyncio
import os
import sys

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import StringCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from plain_session import PlainSession


class Student(MLModel):
    """The student behind the Open Inference Protocol."""

    async def load(self) -> bool:
        """Open the bundle."""
        self.session = PlainSession(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Probabilities in label order."""
        (text,) = StringCodec.decode_input(payload.inputs[0])
        probs = self.session.probs(text)
        outputs = [
            StringCodec.encode_output("labels", list(probs)),
            ResponseOutput(name="probs", datatype="FP32", shape=[1, len(probs)], data=list(probs.values())),
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)


async def main(folder: str, port: int) -> None:
    """Serve until a signal comes."""
    n_cores = len(os.sched_getaffinity(0))
    settings = Settings(
        host="127.0.0.1", http_port=port, grpc_port=port + 1, metrics_endpoint=None, parallel_workers=n_cores, debug=False
    )
    server = MLServer(settings)
    implementation = "mlserver_onnx.Student"  # by name: its worker processes import it
    await server.start([ModelSettings(name="student", implementation=implementation, parameters=ModelParameters(uri=folder))])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))

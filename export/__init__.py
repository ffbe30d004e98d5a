"""From a checkpoint to a bundle: float ONNX, int8, the gate between them, and the proved folder."""

"""Export a checkpoint as a bundle: float ONNX, int8 forms, the gate that compares them, and the proved folder."""

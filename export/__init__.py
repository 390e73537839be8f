"""From a trained student to a proven bundle: ONNX, parity, bisect."""

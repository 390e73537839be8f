"""TensorRT engines from the bundle's ONNX files: lint, build, proof, rebuild (DESIGN 8)."""

"""TensorRT engines from the bundle's ONNX files: lint, build, proof, rebuild.

See docs/design.md, section TensorRT.
"""

"""The student's ONNX graph in other precisions (docs/design.md, section Precisions)."""

"""The student's ONNX graph in other precisions (DESIGN 9)."""

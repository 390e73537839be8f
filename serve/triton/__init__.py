"""The same bundle on Triton Inference Server."""

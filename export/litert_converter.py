"""PyTorch's exported program as a LiteRT file: python -I litert_converter.py SOURCE OUT PRECISION.

It runs in an environment of its own and imports nothing of ours: what it needs, litert-torch, does
not resolve beside our packages. int8-dynamic: weights in int8, inputs get a scale at each call.
"""

import sys


def convert(source: str, out: str, precision: str) -> None:
    """Write ``source``, a file of torch.export, as ``out`` in ``precision``."""
    import litert_torch
    import torch

    program = torch.export.load(source)
    assert program.example_inputs is not None
    litert_torch.convert(program.module(), program.example_inputs[0]).export(out)
    if precision == "int8-dynamic":
        from ai_edge_quantizer import quantizer, recipe

        quantised = quantizer.Quantizer(out, recipe.dynamic_wi8_afp32()).quantize()
        quantised.export_model(out, overwrite=True)


if __name__ == "__main__":
    convert(*sys.argv[1:])

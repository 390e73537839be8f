"""The types in the typed network that the parser made: what is asked of the builder, without a GPU.

In a strongly typed network the builder may not choose another type. What it made of it is the
inspector's to tell, on a GPU (``proof.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...bundle.engine import AskedPrecision
from ...bundle.precisions import precision_of_type
from ...errors import MldrError

if TYPE_CHECKING:
    import tensorrt as trt

_PRODUCTS = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM")
_MOVES = ("SHUFFLE", "IDENTITY")  # layers that hand on values as they are


def asked_precision(claimed: str, network: trt.INetworkDefinition) -> AskedPrecision:
    """Count the products of ``network`` by type. Raises MldrError where none is in ``claimed``."""
    makers = {name: k for k in range(network.num_layers) for name in _outputs(network.get_layer(k))}
    counted = Counter(_products(network, makers))
    record = AskedPrecision(claimed=claimed, multiplies=dict(counted.most_common()))
    if counted and claimed not in counted:
        raise MldrError(f"no product of the network is in {claimed} ({record})")
    return record


def _outputs(layer: trt.ILayer) -> Iterator[str]:
    """Names of the tensors that ``layer`` gives."""
    for k in range(layer.num_outputs):
        tensor: trt.ITensor = layer.get_output(k)
        yield tensor.name


def _products(network: trt.INetworkDefinition, makers: dict[str, int]) -> Iterator[str]:
    for k in range(network.num_layers):
        layer: trt.ILayer = network.get_layer(k)
        if layer.type.name in _PRODUCTS:
            yield _input_type(layer, network, makers)


def _input_type(layer: trt.ILayer, network: trt.INetworkDefinition, makers: dict[str, int]) -> str:
    """The type that a product takes: that of its quantised inputs, where all are dequantised."""
    quantised = {
        _quantised(layer.get_input(k), network, makers) for k in range(min(layer.num_inputs, 2))
    }
    if len(quantised) == 1 and None not in quantised:
        return str(quantised.pop())
    first: trt.ITensor = layer.get_input(0)
    return _name(first)


def _quantised(
    tensor: trt.ITensor, network: trt.INetworkDefinition, makers: dict[str, int]
) -> str | None:
    """The type that ``tensor`` was dequantised from; None: it was not."""
    place = makers.get(tensor.name)
    while place is not None:
        maker: trt.ILayer = network.get_layer(place)
        source: trt.ITensor = maker.get_input(0)
        if maker.type.name == "DEQUANTIZE":
            return _name(source)
        place = makers.get(source.name) if maker.type.name in _MOVES else None
    return None


def _name(tensor: trt.ITensor) -> str:
    kind = str(tensor.dtype.name)
    return precision_of_type(kind) or kind.lower()

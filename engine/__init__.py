"""TensorRT engines where they run: the machine, CUDA buffers and graphs, the runtime.

Below both ``export``, which proves engines, and ``serve``, which serves them; building them is
``export/tensorrt``. Loads neither torch nor, before it is used, TensorRT.
"""

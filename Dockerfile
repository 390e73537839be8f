# `mldr-deploy serve` in a container: no PyTorch, no root.
#
#   docker build -t mldr-serve .
#   docker run -p 8000:8000 -v $PWD/runs/digits/bundle:/bundle:ro mldr-serve
#
# More options of `serve` go behind the image's name. tests/serve/test_container.py follows the steps.

FROM python:3.12-slim AS build
COPY . /build
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /build

FROM python:3.12-slim
COPY constraints.txt /wheels/
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir -c /wheels/constraints.txt click fastapi httptools numpy onnxruntime pillow prometheus-client pydantic python-multipart rich uvicorn uvloop
RUN pip install --no-cache-dir --no-deps --find-links /wheels --no-index mldr-deploy
RUN useradd --system --no-create-home --uid 10001 mldr
USER mldr
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=2)"]
ENTRYPOINT ["mldr-deploy", "serve", "/bundle", "--host", "0.0.0.0"]

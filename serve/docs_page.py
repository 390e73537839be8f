"""``/docs``: the OpenAPI document as one page that needs no network and no script."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse

from .query import StrictRoute
from .service import Service

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'"
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --mark: #2563eb }
@media (prefers-color-scheme: dark) { :root { --mark: #7aa7ff } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.5rem }
code, pre { font: 0.9em/1.45 ui-monospace, monospace }
pre { background: var(--soft); padding: .75rem 1rem; border-radius: .4rem; overflow-x: auto }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .5rem 0 }
details { padding: .5rem 1rem }
summary { cursor: pointer; overflow-wrap: anywhere }
summary b { color: var(--mark); display: inline-block; min-width: 3.2rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0;
  border-top: 1px solid var(--line) }
form { display: flex; flex-wrap: wrap; gap: .75rem; align-items: center }
"""


def docs_routes(service: Service) -> APIRouter:
    """The page itself, the document that it shows, and the way to it from ``/``."""
    router = APIRouter(route_class=StrictRoute)

    @router.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        app: FastAPI = request.app
        text = page(app.openapi(), service, str(request.base_url).rstrip("/"))
        return HTMLResponse(text, headers={"Content-Security-Policy": _POLICY})

    @router.get("/openapi.json", include_in_schema=False)
    async def document(request: Request) -> JSONResponse:
        app: FastAPI = request.app
        return JSONResponse(app.openapi())

    @router.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("./docs")  # relative: a proxy may put a path before ours

    return router


def page(document: dict[str, Any], service: Service, url: str) -> str:
    """The whole page; ``url`` is how the reader reached the service."""
    title = escape(document["info"]["title"])
    parts = [
        f"<h1>{title}</h1><p>{escape(document['info'].get('summary', ''))} "
        '<a href="openapi.json">openapi.json</a> is the same for programs, '
        '<a href="metrics">metrics</a> is for Prometheus.</p>',
        _facts(service),
        _try(service),
        _examples(service, url),
        "<h2>Routes</h2>",
        *(
            _operation(method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ),
        "<h2>Bodies</h2>",
        *(_schema(name, schema) for name, schema in document["components"]["schemas"].items()),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def _facts(service: Service) -> str:
    manifest, config = service.manifest, service.config
    shape = ", ".join(str(side) for side in manifest.input.shape)
    rows = [
        ("model", f"{service.model}, {len(manifest.labels)} labels"),
        ("runs", f"{service.runtime.model.path.name} ({service.runtime.model.precision}) in "
                 f"{service.runtime.name}"),
        ("input", f"{manifest.input.name} [{shape}], at most {service.max_batch} "
                  "images a request"),
        ("uploads", f"at most {config.max_upload_mib:g} MiB, once inflated if they come as gzip or "
                    f"deflate, and {config.max_megapixels:g} megapixels"),
        ("deadline", f"{config.deadline:g} s; at most {service.batcher.max_queue} images wait"),
    ]  # fmt: skip
    return _table(rows)


def _try(service: Service) -> str:
    return (
        '<h2>Try it</h2><form action="classify" method="post" enctype="multipart/form-data">'
        '<input type="file" name="file" accept="image/*" required>'
        "<button>Classify</button></form>"
    )


def _examples(service: Service, url: str) -> str:
    name, output = service.manifest.input.name, service.manifest.output.name
    height, width = service.manifest.preprocessing.size
    code = f"""import numpy as np, tritonclient.http as http

client = http.InferenceServerClient("{url.partition("://")[2]}")
images = np.zeros((1, 3, {height}, {width}), np.float32)  # preprocessed as manifest.json says
tensor = http.InferInput("{name}", list(images.shape), "FP32")
tensor.set_data_from_numpy(images)
logits = client.infer("{service.model}", [tensor]).as_numpy("{output}")
best = [http.InferRequestedOutput("{output}", class_count=3)]
print(client.infer("{service.model}", [tensor], outputs=best).as_numpy("{output}"))"""
    return (
        f"<h2>From a program</h2><pre>curl -F file=@cat.jpg {escape(url)}/classify</pre>"
        f"<pre>{escape(code)}</pre>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [f"<p>{escape(operation['description'])}</p>"] if "description" in operation else []
    parameters = [
        (
            f"{parameter['name']} ({parameter['in']})",
            parameter.get("description", parameter.get("schema", {}).get("title")),
        )
        for parameter in operation.get("parameters", [])
    ]
    bodies = [(kind, _kind(body)) for kind, body in _content(operation.get("requestBody", {}))]
    answers = [
        (status, f"{answer.get('description', '')} {_answer(answer)}".strip())
        for status, answer in operation["responses"].items()
    ]
    for heading, rows in (("Parameters", parameters), ("Body", bodies), ("Answers", answers)):
        if rows:
            parts.append(f"<b>{heading}</b>{_table(rows)}")
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> "
        f"{escape(operation.get('summary', ''))}</summary>{''.join(parts)}</details>"
    )


def _schema(name: str, schema: dict[str, Any]) -> str:
    rows = [
        (field, f"{_type(value)}. {value.get('description', '')}".strip())
        for field, value in schema.get("properties", {}).items()
    ]
    about = escape(schema.get("description", ""))
    return (
        f"<details><summary><code>{escape(name)}</code> {about}</summary>{_table(rows)}</details>"
    )


def _table(rows: list[Any]) -> str:
    cells = "".join(
        f"<tr><td><code>{escape(str(name))}</code></td><td>{escape(str(text or ''))}</td></tr>"
        for name, text in rows
    )
    return f'<div class="wide"><table>{cells}</table></div>'


def _content(holder: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind, body in holder.get("content", {}).items():
        yield kind, body.get("schema", {})


def _answer(answer: dict[str, Any]) -> str:
    bodies = [f"{kind}: {_kind(body)}" if body else kind for kind, body in _content(answer)]
    return f"[{'; '.join(bodies)}]" if bodies else ""


def _kind(schema: dict[str, Any]) -> str:
    fields = schema.get("properties")
    return f"an object of {', '.join(fields)}" if fields else _type(schema)


def _type(schema: dict[str, Any]) -> str:
    """A schema in a word or two."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("format", schema.get("type", "anything")))

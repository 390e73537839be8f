"""What browsers, load balancers and people at a terminal ask beside the two main routes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mldr_deploy.cli import main
from mldr_deploy.serve.origin import browsers_origin

MODEL = "/v2/models/test_resnet"
READABLE = [
    "/", "/docs", "/openapi.json", "/metrics", "/health", "/healthz", "/v2", "/v2/health/live",
    "/v2/health/ready", MODEL, f"{MODEL}/ready", f"{MODEL}/config", f"{MODEL}/stats",
    f"{MODEL}/versions/1", f"{MODEL}/versions/1/ready", "/v2/models/stats",
]  # fmt: skip
POSTED = ["/classify", f"{MODEL}/infer", f"{MODEL}/versions/1/infer", "/v2/repository/index"]


@pytest.mark.parametrize("path", READABLE)
def test_head_is_get_without_its_body(live: Any, ask: Callable[..., Any], path: str) -> None:
    head, got = ask(live, "HEAD", path), ask(live, "GET", path)
    assert head.status == got.status == (307 if path == "/" else 200)
    assert head.body == b"" and head.headers["Content-Type"] == got.headers["Content-Type"]
    assert abs(int(head.headers["Content-Length"]) - len(got.body)) < 1000  # counters go on


def test_what_is_not_there_is_told_in_the_houses_shape(live: Any, ask: Callable[..., Any]) -> None:
    for path in ("/nowhere", "/v2/nowhere", "/v3", "/v2/models", "/favicon.ico"):
        answer = ask(live, "GET", path)
        assert answer.status == 404 and f"nothing at {path}: /docs lists" in answer.error
        assert (ask(live, "HEAD", path).status, ask(live, "HEAD", path).body) == (404, b"")
    for path in READABLE:
        for method in ("POST", "DELETE", "PUT", "OPTIONS"):
            answer = ask(live, method, path)
            assert answer.status == 405 and answer.headers["Allow"] == "GET, HEAD"
            assert f"does not take {method}, only GET, HEAD" in answer.error
    for path in POSTED:
        for method in ("GET", "DELETE", "PATCH", "OPTIONS"):
            answer = ask(live, method, path)
            assert answer.status == 405 and answer.headers["Allow"] == "POST"
            assert "only POST" in answer.error
        assert ask(live, "HEAD", path).status == 405


def test_the_root_leads_to_the_page(live: Any, ask: Callable[..., Any]) -> None:
    from urllib.parse import urljoin

    answer = ask(live, "GET", "/")
    assert answer.status == 307
    assert urljoin("http://a/", answer.headers["Location"]) == "http://a/docs"
    assert urljoin("http://a/under/", answer.headers["Location"]) == "http://a/under/docs"


def test_without_cors_no_origin_is_allowed(live: Any, ask: Callable[..., Any], good: bytes) -> None:
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    answer = ask(live, "OPTIONS", "/classify", None, headers)
    assert answer.status == 405 and "Access-Control-Allow-Origin" not in answer.headers
    answer = ask(live, "POST", "/classify", good, {"Origin": "https://a.example"})
    assert answer.status == 200 and "Access-Control-Allow-Origin" not in answer.headers


def test_cors_allows_the_origins_that_are_named(
    served: Path, launch: Callable[..., Any], ask: Callable[..., Any], good: bytes
) -> None:
    mine = ["https://a.example", "http://127.0.0.1:3000"]
    options = [word for origin in mine for word in ("--cors", origin)]
    live = launch(served, "--runtime", "onnxruntime-cpu", *options)

    def asked(origin: str, method: str = "POST") -> Any:
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "content-type, inference-header-content-length",
        }
        return ask(live, "OPTIONS", f"{MODEL}/infer", None, headers)

    for origin in mine:
        answer = asked(origin)
        assert answer.status == 200 and "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert "inference-header" in answer.headers["Access-Control-Allow-Headers"]
        for path, body, status in (
            ("/classify", good, 200), ("/classify", b"<svg/>", 415), (f"{MODEL}/infer", b"{}", 400),
            ("/classify?foo=1", good, 422), ("/nowhere", good, 404),
        ):  # fmt: skip
            answer = ask(live, "POST", path, body, {"Origin": origin})
            assert answer.status == status, path
            assert answer.headers["Access-Control-Allow-Origin"] == origin
            exposed = answer.headers["Access-Control-Expose-Headers"]
            assert "Inference-Header-Content-Length" in exposed and "Retry-After" in exposed
    for origin in ("https://b.example", "null", "https://a.example.evil.example"):
        refused = asked(origin)
        assert refused.status == 400 and "Disallowed CORS origin" in refused.error
        assert "Access-Control-Allow-Origin" not in refused.headers
        answer = ask(live, "POST", "/classify", good, {"Origin": origin})
        assert answer.status == 200 and "Access-Control-Allow-Origin" not in answer.headers
    assert "method" in asked(mine[0], "DELETE").error
    assert ask(live, "POST", "/classify", good).status == 200  # no browser: as ever


@pytest.mark.parametrize(
    "origin",
    ["*", "http://a.example", "https://a.example:8443", "http://localhost:3000", "http://[::1]:80",
     "http://127.0.0.1", "https://xn--mller-kva.example", "http://a_b"],
)  # fmt: skip
def test_origins_as_browsers_send_them(origin: str) -> None:
    if origin == "http://[::1]:80":  # 80 is what http means: no browser sends it
        with pytest.raises(ValueError, match=r"write http://\[::1\]$"):
            browsers_origin(origin)
    else:
        assert browsers_origin(origin) == origin


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        ("https://a.example/", "write https://a.example"),
        ("https://a.example/page", "write https://a.example"),
        ("https://A.example", "write https://a.example"),
        ("https://a.example:443", "write https://a.example"),
        ("https://müller.example", "write https://xn--mller-kva.example"),
        ("a.example", "is no origin"),
        ("localhost:3000", "is no origin"),
        ("https://*.example", "is no origin"),
        ("ftp://a.example", "is no origin"),
        ("https://a.example:port", "is no origin"),
        ("https://user@a.example", "is no origin"),
        ("null", "is no origin"),
        ("", "is no origin"),
    ],
)
def test_an_origin_that_no_browser_sends_is_one_line(served: Path, origin: str, said: str) -> None:
    result = CliRunner().invoke(main, ["serve", str(served), "--cors", origin])
    assert result.exit_code == 1 and result.stderr.count("\n") == 1, result.output
    assert "cors" in result.stderr and said in result.stderr

"""Parameters in the URL: what a route does not know is refused by name, not passed over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from .request_refusal import RequestRefusal


class StrictRoute(APIRoute):
    """A route that takes the parameters of its signature, each once, and no other."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind the check."""
        handler = super().get_route_handler()
        names = {field.alias for field in self.dependant.query_params}

        async def strict(request: Request) -> Response:
            require_query(request.scope["query_string"], names)
            return await handler(request)

        return strict


def require_query(query: bytes, names: Collection[str]) -> None:
    """Raises RequestRefusal (422) for a parameter that is not in ``names``, or comes twice."""
    if not query:
        return
    sent_names = [name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)]
    for name in sent_names:
        if name not in names:
            accepted = f"it takes {', '.join(sorted(names))}" if names else "it takes none"
            raise _refused(f"query.{name[:40]}: this route has no such parameter; {accepted}")
        if sent_names.count(name) > 1:
            raise _refused(f"query.{name}: given {sent_names.count(name)} times; send it once")


def _refused(message: str) -> RequestRefusal:
    return RequestRefusal(422, "parameters", message)

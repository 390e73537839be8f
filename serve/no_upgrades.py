"""httptools stops at the head of a request that offers another protocol, and its body is lost.

Java's own client offers HTTP/2 (``Upgrade: h2c``) with every first request. A server may pass over
an offer (RFC 9110, section 7.8), so such a head is read again without it.
"""

from __future__ import annotations

import contextlib
from functools import cache
from typing import Any

from .httptools_bounds import HttptoolsBounds


@cache
def offer_parser() -> Any:
    """httptools' parser; it hands what follows the head of an offer to its protocol."""
    import httptools

    class OfferParser(httptools.HttpRequestParser):  # type: ignore[misc]
        def __init__(self, protocol: NoUpgrades) -> None:
            super().__init__(protocol)
            self._protocol = protocol
            with contextlib.suppress(AttributeError):  # httptools before 0.6.3 needs it not
                self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

        def feed_data(self, data: bytes) -> None:
            try:
                super().feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if not self._protocol.offers_upgrade:
                    raise
                self._protocol.pass_over(data[offer.args[0] :])

    return OfferParser


class NoUpgrades(HttptoolsBounds):
    """The guard of a connection that stays with HTTP/1.1."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.parser = offer_parser()(self)

    @property
    def offers_upgrade(self) -> bool:
        """Whether the request offers another protocol, and is not CONNECT, which demands one."""
        return bool(self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT")

    def on_headers_complete(self) -> None:
        if not self.offers_upgrade:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.offers_upgrade:
            super().on_message_complete()

    def pass_over(self, following: bytes) -> None:
        """Read the request's head again without its offer, then the bytes that follow it."""
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = offer_parser()(self)
        self.parser.feed_data(b"\r\n".join([*lines, b"", b""]) + following)

"""One connection that may be slow, silent or endless only for a while, and hold only a little.

uvicorn bounds neither the time that a request's head takes nor the time that an answer waits for
its reader. A body has its own rules, in the application (``body.py``).
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from .byte_budget import PACE
from .service_config import ServeConfig

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    from uvicorn.server import ServerState

    Connection = HttpToolsProtocol
else:
    Connection = object  # or h11's protocol: guarded_protocol.py has both

HEAD_BYTES = 1 << 16  # of a request line and its headers; h11 has this limit itself


class ConnectionGuard(Connection):
    """Keeps one of uvicorn's protocols within ``limits``; call ``cut_late`` every second.

    Where there are more connections than ``limits`` allows, the new one takes the place of one that
    is still sending: of the address with most connections, an idle one first, then the oldest.
    """

    def __init__(
        self,
        limits: ServeConfig,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self.timeout_keep_alive = limits.keep_alive
        self._since = self.loop.time()  # when the connection, its answer or the next head began
        self._unread = 0  # bytes of answers that wait for their reader
        self._read = self._since  # when there were none, or PACE fewer
        self._begun = False  # whether a part of a head has come

    @property
    def awaits_head(self) -> bool:
        """Whether no request is being received or answered."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def awaits_body(self) -> bool:
        """Whether a request has come in part."""
        return not self.awaits_head and self.cycle.more_body

    @property
    def address(self) -> str:
        """Of the client; empty where there is none."""
        return self.client[0] if self.client else ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections:
            guarded = [peer for peer in self.connections if isinstance(peer, ConnectionGuard)]
            crowded_out(guarded).drop()

    def drop(self) -> None:
        """Close at once; what was not sent is lost."""
        self.connections.discard(self)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.awaits_head and not self._begun:
            self._since = self.loop.time()
        self._begun = self.awaits_head

    def send_400_response(self, msg: str) -> None:
        """Called where the parser stops."""
        self.refuse(400, f"this is not HTTP/1.1, or its head has more than {HEAD_BYTES} bytes")

    def on_response_complete(self) -> None:
        self._since, self._begun = self.loop.time(), False
        super().on_response_complete()

    def cut_late(self, now: float) -> None:
        """Cut the connection if it is late at ``now``, on the loop's clock."""
        patience = self._limits.head_timeout
        if self._reads_slowly(now):
            self.drop()
        elif now - self._since > patience:
            if self._begun:
                self.refuse(408, f"the request's head took more than {patience:g} seconds")
            elif self.cycle is None:  # never used; uvicorn ends one that was
                self.transport.close()

    def _reads_slowly(self, now: float) -> bool:
        """Whether PACE bytes of an answer, or its last ones, took longer than an answer may."""
        unread = self.transport.get_write_buffer_size()
        if unread == 0 or unread <= self._unread - PACE:
            self._unread, self._read = unread, now
        self._unread = max(self._unread, unread)
        return now - self._read > self._limits.head_timeout

    def refuse(self, status: int, message: str) -> None:
        """Answer and close; only close where the answer would be taken for another request's."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and (self.cycle.more_body or not self.cycle.response_complete):
            self.drop()
            return
        body = json.dumps({"error": message}).encode()
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()


def crowded_out(connections: list[ConnectionGuard]) -> ConnectionGuard:
    """The connection that gives way to a new one, which is among them: see ConnectionGuard."""
    crowds = Counter(connection.address for connection in connections)
    sending = [peer for peer in connections if peer.awaits_head or peer.awaits_body]
    return max(sending, key=lambda peer: (crowds[peer.address], peer.awaits_head, -peer._since))

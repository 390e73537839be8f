"""httptools has no limit to the bytes of a head, nor to requests that come before their answers."""

from __future__ import annotations

from .connection_guard import HEAD_BYTES, ConnectionGuard

_FRAME_BYTES = 8  # of chunked framing that a byte of the body excuses
_PIPELINED = 16  # requests that wait for the answer to the one before


class HttptoolsBounds(ConnectionGuard):
    """The guard with the bounds that h11 has by itself."""

    _overhead = 0  # bytes of the request that are not its body

    def data_received(self, data: bytes) -> None:
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > HEAD_BYTES:
            self.refuse(431, f"the request's head has more than {HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._overhead = 0

    def on_headers_complete(self) -> None:
        if len(self.pipeline) == _PIPELINED:
            raise BufferError("too many requests at once")  # the parser stops: send_400_response
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._overhead = max(0, self._overhead - (1 + _FRAME_BYTES) * len(body))

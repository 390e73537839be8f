"""The refusal of a request: status, reason and, where it may be repeated, when."""

from __future__ import annotations


class RequestRefusal(Exception):
    """``reason`` is one word for the metrics; the message tells the client what to change.

    ``headers`` of the answer; with ``retry_after`` also Retry-After, where repeating it helps.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        retry_after: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)


def overloaded(reason: str, message: str, retry_after: int = 1) -> RequestRefusal:
    """503 with Retry-After."""
    return RequestRefusal(503, reason, message, retry_after)


def malformed(message: str) -> RequestRefusal:
    """400 for a request of the inference protocol that cannot be read."""
    return RequestRefusal(400, "malformed", message)

"""A request that is not answered as asked: status, reason and, if it may be repeated, when."""

from __future__ import annotations


class Refusal(Exception):
    """``reason`` is one word for the metrics; the message tells the client what to change."""

    def __init__(
        self, status: int, reason: str, message: str, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """``Retry-After`` where repeating it helps."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def overloaded(reason: str, message: str, retry_after: int = 1) -> Refusal:
    """503 with Retry-After."""
    return Refusal(503, reason, message, retry_after)

"""The file in a multipart form."""

from __future__ import annotations

from .request_refusal import RequestRefusal

_MOST_PARTS = 16


def is_form(content_type: str) -> bool:
    """Whether the body is a multipart form."""
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def file_part(content_type: str, body: bytes) -> bytes:
    """Content of the form's only part, whatever it is called.

    Raises RequestRefusal (400) for a damaged form and for one with no part or several: an answer
    for one of two files, or without a field that was sent, would pass over the rest.
    """
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise _damaged("it names no boundary")
    collected = _Parts()
    try:
        parser = MultipartParser(boundary, collected.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise _damaged(str(error)[:200]) from None
    if not collected.complete:
        raise _damaged("it is cut off")
    _, _, epilogue = body.partition(b"\r\n--" + boundary + b"--")
    if epilogue.strip():
        raise _damaged("bytes follow its end")
    return _only_part(collected.parts).content()


def _only_part(parts: list[_Part]) -> _Part:
    files = [part for part in parts if part.names_file]
    fields = [part for part in parts if not part.names_file]
    if len(files) > 1:
        names = ", ".join(part.text(b"filename") for part in files)
        raise RequestRefusal(
            400, "two_files", f"the form holds {len(files)} files ({names}): send one in a request"
        )
    if files and fields:
        names = ", ".join(part.text(b"name") for part in fields)
        raise RequestRefusal(
            400,
            "form_field",
            f"unknown field of the form ({names}): send the file alone, options in the URL",
        )
    if len(parts) != 1:
        raise RequestRefusal(
            400, "no_file", "the form holds no file: send it in a part with a file name"
        )
    return parts[0]


class _Part:
    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.spans: list[bytes] = []

    def content(self) -> bytes:
        return b"".join(self.spans)

    @property
    def names_file(self) -> bool:
        return b"filename" in self._disposition()

    def text(self, name: bytes) -> str:
        """An option of the part's disposition, as a message shows it."""
        return repr(self._disposition().get(name, b"").decode(errors="replace")[:40])

    def _disposition(self) -> dict[bytes, bytes]:
        from python_multipart.multipart import parse_options_header

        return parse_options_header(self.headers.get(b"content-disposition", b""))[1]


class _Parts:
    """What the parser's callbacks collect."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.complete = False
        self._field = self._value = b""

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._header,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == _MOST_PARTS:
            raise RequestRefusal(400, "form", f"a form of more than {_MOST_PARTS} parts")
        self.parts.append(_Part())

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        self.parts[-1].headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].spans.append(data[start:end])

    def _end(self) -> None:
        self.complete = True


def _damaged(reason: str) -> RequestRefusal:
    return RequestRefusal(400, "form", f"the multipart form is damaged: {reason}")

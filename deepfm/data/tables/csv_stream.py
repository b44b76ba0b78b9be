"""The bytes of a CSV file as UTF-8, unpacked, whole to the last row's end; and whether its last quote was closed."""

import io
from pathlib import Path

import pyarrow as pa

from deepfm.errors import DataError

QUOTE = b'"'
BLOCK_BYTES = 8 << 20


class CsvStream(io.RawIOBase):
    """What pyarrow reads of a CSV file.

    It ends with a line's end, which pyarrow wants after a header without rows, and it remembers its last bytes.

    Args:
        path: the file; `.gz`, `.zst` and `.bz2` are unpacked.
        encoding: of the text, which is read as UTF-8.
    """

    def __init__(self, path: Path, encoding: str) -> None:
        super().__init__()
        self._path = path
        self._stream = pa.input_stream(str(path), compression="detect")
        if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
            self._stream = pa.transcoding_input_stream(self._stream, encoding, "utf-8")
        self._last = (b"", b"")
        self._ended = False

    def readable(self) -> bool:
        """It can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes; none at the end.

        Raises:
            DataError: they hold a NUL, which no text does.
        """
        if self._ended:
            return b""
        room = BLOCK_BYTES if size < 0 else size
        chunk = bytearray()
        while len(chunk) < room - 1 and not self._ended:  # one byte is left for a line's end
            more = self._stream.read(room - 1 - len(chunk))
            chunk += more
            self._ended = not more
        text = bytes(chunk)
        if self._ended and not (text or self._last[1]).endswith((b"\n", b"\r")):
            text += b"\n"
        if b"\0" in text:
            raise DataError(
                f"{self._path} holds NUL bytes, so it is no text, or of another encoding (--encoding utf-16?); "
                "mend the file"
            )
        self._last = (self._last[1], text) if text else self._last
        return text

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        super().close()

    def open_quote(self, cell: str | None) -> bool:
        """Whether the file ends inside quotes.

        Args:
            cell: the last one of the last row as it was read; quotes never closed hold the rest of the file.
        """
        if not self._ended or cell is None or not cell.endswith(("\n", "\r")):
            return False
        opened = QUOTE + cell.encode().replace(QUOTE, QUOTE * 2)
        text = b"".join(self._last)
        if not text.endswith(opened):
            return False
        return bool(cell.strip("\r\n")) or not text[: -len(opened)].endswith(opened)

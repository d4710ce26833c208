"""A captured stream in a file: raw frames with their timing. No socket and no clock in here.

A file is a stream of msgpack values, through gzip where its name ends in ``.gz``:

1. a map: ``mt4pump_recording`` (version of this form), ``protocol``, ``began_ns`` (ns since 1970) and what else the
   writer adds;
2. per message an array ``[at_ns, [frame, …], crc]``: nanoseconds since ``began_ns``, the frames as they came, and
   CRC-32 over both;
3. a map ``{"messages": n, "length_ns": n}``: the end. A file without it was cut off.

A reader gets every whole message, one at a time; `Recording.problem` says what is wrong with the rest.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from io import BufferedIOBase
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import msgpack

from mt4pump.errors import FrameError, StartError
from mt4pump.private_files import make_private, private_opener
from mt4pump.wire import PROTOCOL, UnpackLimits, unpack_stream

FORM = "mt4pump_recording"
VERSION = 2
COMPRESSED = ".gz"
COMPRESSION = 6
READ_BYTES = 65_536
MESSAGE_MAX_BYTES = 64 * 1024 * 1024
"""Largest value that is read: a larger one is damage."""
VALUE = UnpackLimits(list_entries=1_024, map_entries=1_024, values=4_096)
"""Limits of a value: a header, a message of some frames, or the end map."""
FRAMES_MAX = 16
"""Frames of one message: ours have two."""
LENGTH_MAX_NS = 100 * 366 * 86_400 * 1_000_000_000
"""A hundred years: a later message is damage."""
AT_BYTES = 9
"""Any integer of msgpack fits, also one of a damaged file."""
GZIP_MAGIC = b"\x1f\x8b"


class RecordedMessage(NamedTuple):
    """A recorded message: nanoseconds since the recording began, and its frames."""

    at_ns: int
    frames: list[bytes]


class RecordingWriter:
    """Writes a new file; ``with`` closes it, with its end map. Raises StartError when it cannot be made.

    `add` and `flush` raise OSError when writing fails; what was flushed before stays readable.
    """

    def __init__(self, path: Path, began_ns: int, about: Mapping[str, object], *, overwrite: bool = False) -> None:
        try:
            self._file = open(path, "wb" if overwrite else "xb", opener=private_opener)  # noqa: SIM115 - closed by `close`
            make_private(path)
        except FileExistsError:
            raise StartError(f"{path} exists; name another file, or overwrite it with --force") from None
        except OSError as error:
            raise StartError(f"{path} cannot be written: {error.strerror or error}") from error
        self._out: BinaryIO | gzip.GzipFile = self._file
        if path.suffix == COMPRESSED:
            self._out = gzip.GzipFile("", "wb", COMPRESSION, self._file, mtime=began_ns // 1_000_000_000)
        self._pack = msgpack.Packer().pack
        self._began_ns = began_ns
        self.messages = self.bytes = self.length_ns = 0
        self._out.write(self._pack({FORM: VERSION, "protocol": PROTOCOL, "began_ns": began_ns, **about}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, frames: Sequence[bytes], now_ns: int) -> None:
        """Write one message received at ``now_ns`` (ns since 1970); times never decrease if the clock is set back."""
        self.length_ns = max(self.length_ns, now_ns - self._began_ns)
        packed = self._pack([self.length_ns, list(frames), checksum(self.length_ns, frames)])
        self._out.write(packed)
        self.messages += 1
        self.bytes += len(packed)

    def flush(self) -> None:
        """Write all that was added to the file, so that it survives the end of this process."""
        self._out.flush()
        self._file.flush()

    def close(self) -> None:
        """Write the end map and close; raises OSError when writing fails."""
        if self._file.closed:
            return
        try:
            self._out.write(self._pack({"messages": self.messages, "length_ns": self.length_ns}))
            self._out.close()
        finally:
            self._file.close()


class Recording:
    """Reads a file, one message at a time. Raises StartError when it cannot be read, or is no recording.

    Attributes:
        about: The map at the start of the file.
        problem: After the last message: what is wrong with the rest of the file; empty for nothing.
        messages: Messages read so far.
        size_bytes: Size of the file.
    """

    def __init__(self, path: Path) -> None:
        self.problem = ""
        self.messages = 0
        self._last_ns = 0
        try:
            self._file = path.open("rb")
            self.size_bytes = path.stat().st_size
            is_packed = self._file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            self._file.seek(0)
        except OSError as error:
            raise StartError(f"{path} cannot be read: {error.strerror or error}") from error
        source = gzip.GzipFile(fileobj=self._file) if is_packed else self._file
        self._values = _values(source)
        about: Any = None
        with suppress(_DamageError):
            about = next(self._values, None)
        if not isinstance(about, dict) or FORM not in about:
            self.close()
            raise StartError(f"{path} is no recording of mt4pump record")
        if about[FORM] != VERSION:
            self.close()
            raise StartError(f"{path} is a recording of form {about[FORM]!r}; this program reads form {VERSION}")
        self.about: dict[str, Any] = about

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[RecordedMessage]:
        """Yield every whole message, in order."""
        end: object = None
        try:
            for value in self._values:
                if isinstance(value, dict):
                    end = value.get("messages")
                    break
                yield self._message(value)
        except _DamageError as error:
            self.problem = f"damaged behind message {self.messages}: {error}"
            return
        if end is None:
            self.problem = f"cut off behind message {self.messages}: the file has no end mark"
        elif end != self.messages:
            self.problem = f"{self.messages} messages are there and {end} were recorded"

    @property
    def position_bytes(self) -> int:
        """Return how far the file was read."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _message(self, value: object) -> RecordedMessage:
        """Return the message that ``value`` is; raises _DamageError also for one that nobody can have received."""
        match value:
            case [int(at_ns), list(frames), int(crc)] if (
                all(isinstance(frame, bytes) for frame in frames) and checksum(at_ns, frames) == crc
            ):
                if not 1 <= len(frames) <= FRAMES_MAX:
                    raise _DamageError(f"the next one has {len(frames)} frames, and a message 1 to {FRAMES_MAX}")
                if not self._last_ns <= at_ns <= LENGTH_MAX_NS:
                    raise _DamageError("the next one has a time before that of the one before, or of another century")
                self.messages += 1
                self._last_ns = at_ns
                return RecordedMessage(at_ns, frames)
        raise _DamageError("the next one is not as it was written")


class _DamageError(Exception):
    """The file does not contain what was written."""


def checksum(at_ns: int, frames: Sequence[bytes]) -> int:
    """Return CRC-32 over the time and the frames of a message."""
    crc = zlib.crc32(at_ns.to_bytes(AT_BYTES, "big", signed=True))
    for frame in frames:
        crc = zlib.crc32(frame, zlib.crc32(len(frame).to_bytes(8, "big"), crc))
    return crc


def _values(source: BufferedIOBase) -> Iterator[Any]:
    """Yield the values of the file; raises _DamageError where they end before the file does."""
    chunks = iter(lambda: source.read1(READ_BYTES), b"")
    try:
        yield from unpack_stream(chunks, VALUE, MESSAGE_MAX_BYTES)
    except EOFError:  # gzip's own end is missing: cut off, as the missing end map shows
        return
    except (zlib.error, gzip.BadGzipFile) as error:
        raise _DamageError(f"its compression is broken ({error})") from error
    except FrameError as error:
        raise _DamageError(f"it is no recording there ({error})") from error
    except OSError as error:
        raise _DamageError(f"it cannot be read ({error.strerror or error})") from error

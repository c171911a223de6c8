"""Following a text file that another program writes: by its identity, whatever becomes of its path.

The file stays open: one that is renamed is read to its end before the one that took its place, one
that is deleted as long as it is written. Where others had the path in between, and are beside it
under names of old logs, they are read first. A path that is not a regular file is not read.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from carbontrack.files import NotAFile, open_regular
from carbontrack.record.clock import Clock, SetClock
from carbontrack.record.file_state import FileState, state_in, state_of
from carbontrack.record.rotations import Rotation, rotations
from carbontrack.units import NS_PER_MS

MAX_LINE = 1 << 16  # characters; the rest of a longer line is passed over
_MAX_BYTES_A_READ = 4 << 20  # a job that floods the file must not flood our memory
_MAX_BYTES_AT_END = 32 << 20
_MIN_HEAD_BYTES = 2  # of a file with fewer the encoding is not known yet
_TAIL = 256  # bytes before our place by which we know that they are still the same
_LINE_END = re.compile(r"\r\n|\n|\r")


class Lines(NamedTuple):
    """Complete lines in order, that were written after `after_ms` and until `until_ms` by the clock
    of the recording, which the system's is ahead of, or was (`SetClock.sets_ms`).
    """

    lines: list[str]
    after_ms: int
    until_ms: int
    sets_ms: Sequence[int]
    unread_bytes: int = 0  # of a flood at the end


class Follower:
    """Gives the complete lines that a growing file has gained; a missing file has none.

    What it held `before` (its state then) is passed over: it is of an earlier run. Where it is open
    already, as `descriptor`, it is found when its folder is gone. Without the `clock` of a
    recording times are by the system's as it is now.
    """

    def __init__(
        self,
        path: str | None,
        *,
        started_ms: int = 0,
        before: FileState | None = None,
        descriptor: int | None = None,
        clock: SetClock | None = None,
    ) -> None:
        self._path = path
        self._descriptor = descriptor
        self._before = before
        self._file: _OpenFile | None = None
        self._older: set[Rotation] = set()  # beside it when it was opened, or read since
        self._clock = clock or SetClock(Clock.now())
        self._after_ms = started_ms or self._clock.now_ms()
        self.problem: str | None = None  # why it cannot be read any more
        self.refusal = ""  # why the last attempt to open it failed, unless it is not there yet

    def read(self, *, ended: bool = False) -> Lines:
        """The lines since the last time, those of a progress bar too, which end in a carriage
        return; once the job has `ended`, so does what has no end.
        """
        read_ms = self._clock.now_ms()
        room = _MAX_BYTES_AT_END if ended else _MAX_BYTES_A_READ
        lines: list[str] = []
        unread = 0
        until_ms = read_ms
        last: _OpenFile | None = None
        while self._path is not None and (self._file is not None or self._open(after=last)):
            file = self._file
            assert file is not None
            block, got = file.read(room)
            lines += block
            room -= got
            unread = file.unread()
            until_ms = self._written_ms(file, read_ms)
            replaced = unread == 0 and self._is_replaced(file)
            if ended or replaced:
                lines += file.last_line()
            if not replaced:
                break
            self._file, last = None, file
            file.close()
        after_ms = self._after_ms
        # Lines may wait in a buffer of the job's: they are of the time since the last ones
        # came, and the first of that since the job began.
        self._after_ms = until_ms if lines else after_ms
        sets_ms = self._clock.sets_ms
        return Lines(lines, after_ms, until_ms, sets_ms, unread if ended else 0)

    def _written_ms(self, file: _OpenFile, read_ms: int) -> int:
        """When a file was last written, by its file system's clock if that agrees with ours."""
        changed_ms = file.changed_ns // NS_PER_MS - self._clock.set_ms
        return changed_ms if self._after_ms < changed_ms <= read_ms else read_ms

    def _open(self, *, after: _OpenFile | None) -> bool:
        """Open what was written `after` a file that is read, or what the path is."""
        path = self._path or ""
        between = None if after is None else self._between(after)
        try:
            if between is not None:
                descriptor = open_regular(between.path)
            elif self._descriptor is None:
                descriptor = open_regular(path)
            else:  # once, and a copy: what is locked through it stays so
                descriptor, self._descriptor = os.dup(self._descriptor), None
        except NotAFile:
            self.problem = f"{path} is not a regular file"
            return False
        except FileNotFoundError:
            self.refusal = ""
            return False
        except OSError as error:  # it may be opened to us later
            self.refusal = error.strerror or str(error)
            return False
        self.refusal = ""
        before, self._before = self._before, None
        self._file = _OpenFile(descriptor, _offset_after(before, state_in(os.fstat(descriptor))))
        if between is None:
            self._older = set(rotations(path))
        else:
            self._older.add(between)
        return True

    def _between(self, after: _OpenFile) -> Rotation | None:
        """The first of those that had the path since, and have lost it again."""
        now = state_of(self._path or "")
        here = None if now is None else (now.device, now.inode)
        for one in rotations(self._path or ""):
            is_other = one.identity not in (here, after.identity)
            is_new = not any(map(one.is_same, self._older))
            if is_other and is_new and one.changed_ns >= after.changed_ns:
                return one
        return None

    def _is_replaced(self, file: _OpenFile) -> bool:
        now = state_of(self._path or "")
        return now is not None and (now.device, now.inode) != file.identity


def _offset_after(before: FileState | None, now: FileState) -> int:
    """Where what is new begins: behind the old content, unless the file was written again."""
    if before is None or (before.device, before.inode) != (now.device, now.inode):
        return 0
    written_again = now.size < before.size or (
        now.size == before.size and now.changed_ns != before.changed_ns
    )
    return 0 if written_again else before.size


class _OpenFile:
    """A file with our place in it."""

    def __init__(self, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        state = state_in(os.fstat(descriptor))
        self.identity = state.device, state.inode
        self._at_end = state if state.size == offset else None  # when we had read all of it
        self.changed_ns = state.changed_ns  # when we last looked
        self._start(offset)

    def _start(self, offset: int) -> None:
        self._offset = offset
        self._tail = self._bytes_before(offset)
        self._decoder: codecs.IncrementalDecoder | None = None
        self._rest = ""  # of a line that has not ended
        self._skipping = False  # what is left of a line that is too long

    def read(self, most: int) -> tuple[list[str], int]:
        """Complete lines, and how many bytes were read for them."""
        with suppress(OSError):
            if self._is_written_again():
                self._start(0)
            if self._decoder is None:
                if os.fstat(self._descriptor).st_size < _MIN_HEAD_BYTES:
                    return [], 0
                from carbontrack.encoding import HEAD_BYTES, encoding_of  # many a job logs nothing

                head = os.pread(self._descriptor, HEAD_BYTES, 0)
                self._decoder = codecs.getincrementaldecoder(encoding_of(head).name)(
                    errors="replace"
                )
            block = os.pread(self._descriptor, most, self._offset)
            self._offset += len(block)
            self._tail = (self._tail + block)[-_TAIL:]
            state = state_in(os.fstat(self._descriptor))
            self._at_end = state if state.size == self._offset else None
            self.changed_ns = state.changed_ns
            return self._lines(self._decoder.decode(block)), len(block)
        return [], 0

    def last_line(self) -> list[str]:
        """What has no end."""
        rest, self._rest = self._rest, ""
        return [rest] if rest and not self._skipping else []

    def unread(self) -> int:
        """Bytes that are left."""
        with suppress(OSError):
            return max(0, os.fstat(self._descriptor).st_size - self._offset)
        return 0

    def close(self) -> None:
        os.close(self._descriptor)

    def _is_written_again(self) -> bool:
        """Whether what lies before our place is not what we read there."""
        state = state_in(os.fstat(self._descriptor))
        if state.size < self._offset:
            return True
        if state.size == self._offset:
            return self._at_end is not None and state.changed_ns != self._at_end.changed_ns
        return self._bytes_before(self._offset) != self._tail

    def _bytes_before(self, offset: int) -> bytes:
        length = min(_TAIL, offset)
        return os.pread(self._descriptor, length, offset - length) if length else b""

    def _lines(self, text: str) -> list[str]:
        text = text.removeprefix("\ufeff")
        if self._skipping:
            end = _LINE_END.search(text)
            if end is None:
                return []
            text, self._skipping = text[end.end() :], False
        *lines, rest = _LINE_END.split(self._rest + text)
        if len(rest) > MAX_LINE:
            lines.append(rest)
            rest, self._skipping = "", True
        self._rest = rest
        return [line[:MAX_LINE] for line in lines]

"""How ``with`` blocks end: what is read is closed; what is written is finished, or after an error thrown away."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class _Block:
    def _leave(self, *, failed: bool) -> None:
        """Called at the end of the ``with`` block, which an exception ends if it `failed`."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(failed=kind is not None)


class ReaderBlock(_Block):
    """A reader that the end of its ``with`` block closes."""

    def close(self) -> None:
        """Release the source; calling it again does nothing."""
        raise NotImplementedError

    def _leave(self, *, failed: bool) -> None:
        self.close()


class WriterBlock(_Block):
    """A writer that the end of its ``with`` block finishes, or aborts if an exception ends it."""

    def finish(self) -> None:
        """Make the output whole under its final name; calling it again does nothing. Raises OutputError."""
        raise NotImplementedError

    def abort(self) -> None:
        """Throw the output away; does nothing after `finish` or another `abort`, and never raises."""
        raise NotImplementedError

    def _leave(self, *, failed: bool) -> None:
        if failed:
            self.abort()
        else:
            self.finish()

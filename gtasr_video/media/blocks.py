"""How ``with`` blocks end: what is read is closed; what is written is finished, or after an error thrown away."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class ReaderBlock:
    """A reader that the end of its ``with`` block closes."""

    def close(self) -> None:
        """Release the source; calling it again does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class WriterBlock:
    """A writer that the end of its ``with`` block finishes, or aborts if an exception ends it."""

    def finish(self) -> None:
        """Make the output whole under its final name; calling it again does nothing. Raises OutputError."""
        raise NotImplementedError

    def abort(self) -> None:
        """Throw the output away; does nothing after `finish` or another `abort`, and never raises."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.abort()

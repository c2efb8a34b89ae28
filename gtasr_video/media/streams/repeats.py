"""What a list gives for a second time when it is had again: it has come, and is left out."""

from __future__ import annotations

from collections import deque
from typing import Final

# Days of key pictures that come every two seconds.
_KEPT: Final = 100_000
# A stream that has shown no key picture for so many packets has none to tell it by.
_LONGEST_WAIT: Final = 300


class Repeats:
    """Tells what is new in a list that is had again: it is read from a few segments before its end, or from its first.

    Key pictures that have come, and come again in the same order, are known, and so is all up to the next.

    Example::

        >>> repeats = Repeats()
        >>> [repeats.is_new(data, key=True) for data in (b"1", b"2", b"3")]
        [True, True, True]
        >>> repeats.restart()
        >>> [repeats.is_new(data, key=True) for data in (b"2", b"3", b"4")]
        [False, False, True]
    """

    def __init__(self) -> None:
        self._keys: deque[int] = deque(maxlen=_KEPT)
        self._ahead: deque[int] | None = None
        self._looking = False
        self._met = 0

    def restart(self) -> None:
        """Begin a new connection: what comes first may have come before."""
        self._looking, self._ahead, self._met = bool(self._keys), None, 0

    def is_new(self, data: bytes, *, key: bool) -> bool:
        """Return whether the next packet has not come before; `key`: whether it is a key picture."""
        self._met += 1
        if not key:
            self._looking = self._looking and (self._ahead is not None or self._met <= _LONGEST_WAIT)
            return not self._looking
        name = hash(data)
        if self._looking:
            if self._ahead is None:
                self._ahead = self._from(name)
            self._looking = bool(self._ahead) and self._ahead.popleft() == name
        if not self._looking:
            self._keys.append(name)
        return not self._looking

    def _from(self, name: int) -> deque[int]:
        """Return the key pictures from the last one called `name` on: one that stands still has been there often."""
        found: deque[int] = deque()
        for key in reversed(self._keys):
            found.appendleft(key)
            if key == name:
                return found
        return deque()

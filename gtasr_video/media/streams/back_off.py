"""How long to wait before trying once more."""

from __future__ import annotations

import random
from typing import Final

_FIRST_S: Final = 0.25
_LONGEST_S: Final = 10.0


class BackOff:
    """Twice as long each time up to ten seconds, each time by half more or less, so that many do not come at once.

    Example::

        >>> wait = BackOff(random.Random(1))
        >>> all(0.5 * full <= wait.next_s() <= 1.5 * full for full in (0.25, 0.5, 1, 2, 4, 8, 10, 10))
        True
    """

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.Random()
        self._tries = 0

    def next_s(self) -> float:
        """Return the seconds to wait before the next try."""
        full = min(_LONGEST_S, _FIRST_S * 2.0 ** min(self._tries, 16))
        self._tries += 1
        return full * self._chance.uniform(0.5, 1.5)

    def reset(self) -> None:
        """Begin with short waits again: it worked."""
        self._tries = 0

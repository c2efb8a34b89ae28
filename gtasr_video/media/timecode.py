"""SMPTE timecodes (``01:02:03:04``, with ``;`` before the frames where numbers are dropped) moved by some frames."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

_FORM: Final = re.compile(r"(\d{2}):(\d{2}):(\d{2})([:;.])(\d{2,3})")
_DAY_HOURS: Final = 24


def shifted(timecode: str, frames: int, rate: Fraction) -> str:
    """Return `timecode` `frames` later at `rate` frames a second; unchanged if it is none.

    Drop-frame timecode leaves out the first numbers of each minute but every tenth: 2 at 29.97 fps, 4 at 59.94
    (SMPTE ST 12-1). After 24 hours it begins again.
    """
    found = _FORM.fullmatch(timecode)
    if found is None:
        return timecode
    hours, minutes, seconds, number = (int(found.group(i)) for i in (1, 2, 3, 5))
    mark, nominal = found.group(4), round(rate)
    dropped = nominal // 15 if mark in ";." else 0
    past = 60 * hours + minutes
    count = (60 * past + seconds) * nominal + number - dropped * (past - past // 10) + frames
    per_day = _DAY_HOURS * 60 * 60 * nominal - dropped * _DAY_HOURS * 54
    return _written(count % per_day, nominal, dropped, mark)


def _written(count: int, nominal: int, dropped: int, mark: str) -> str:
    per_minute = 60 * nominal - dropped
    per_ten = 10 * per_minute + dropped
    tens, rest = divmod(count, per_ten)
    later = max(0, rest - dropped) // per_minute  # minutes of this ten after its first
    number = count + dropped * (9 * tens + later)
    seconds, frame = divmod(number, nominal)
    minutes, second = divmod(seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{second:02}{mark}{frame:02}"

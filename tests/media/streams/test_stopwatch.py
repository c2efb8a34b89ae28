from __future__ import annotations

import pytest

from gtasr_video.media.streams.stopwatch import Stopwatch
from tests.runtime.live.simulation import Clock


def test_a_wait_counts_while_it_lasts_and_also_when_it_fails() -> None:
    clock = Clock()
    waits = Stopwatch(clock)
    with pytest.raises(ValueError, match="broken"), waits.running():
        clock.now += 2
        assert waits.seconds == 2
        raise ValueError("broken")
    clock.now += 5
    assert waits.seconds == 2
    with waits.running():
        clock.now += 1
        assert waits.seconds == 3

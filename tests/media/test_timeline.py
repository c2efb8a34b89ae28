"""Times that increase strictly, whatever a file says."""

from __future__ import annotations

from fractions import Fraction

from gtasr_video.media.timeline import Timeline

MS = Fraction(1, 1000)


def place(times: list[int | None], dts: list[int | None] | None = None) -> tuple[list[int], list[bool], Timeline]:
    timeline = Timeline(MS, Fraction(25))
    placed = [timeline.place(p, d) for p, d in zip(times, dts or [None] * len(times), strict=True)]
    return [t for t, _ in placed], [c for _, c in placed], timeline


def test_good_times_are_kept_exactly() -> None:
    times: list[int | None] = [-7, 0, 33, 34, 1000, 90_000]
    assert place(times)[0] == times


def test_a_missing_time_follows_by_the_usual_step() -> None:
    times, cuts, timeline = place([100, 140, None, 220])
    assert times == [100, 140, 180, 220]
    assert not any(cuts)
    assert timeline.repaired == 0


def test_the_frame_rate_is_the_step_before_any_other_is_known() -> None:
    assert place([None, None, None])[0] == [0, 40, 80]


def test_a_repeated_time_moves_by_one_tick() -> None:
    times, _, timeline = place([0, 40, 40, 39, 120])
    assert times == [0, 40, 41, 42, 120]
    assert timeline.repaired == 2


def test_a_clock_that_starts_again_is_joined_and_marked() -> None:
    times, cuts, timeline = place([9000, 9040, 9080, 0, 40, 80])
    assert times == [9000, 9040, 9080, 9120, 9160, 9200]
    assert cuts == [False, False, False, True, False, False]
    assert timeline.restarts == 1


def test_decoding_times_serve_where_presentation_times_are_nonsense() -> None:
    """Containers like AVI store none, and what is worked out for reordered frames jumps back and forth."""
    times, _, _ = place([24, 96, 72, 48, 192, 168, 144], [24, 48, 72, 96, 120, 144, 168])
    assert times == sorted(set(times))
    assert times[4:] == [120, 144, 168]


def test_decoding_times_serve_where_there_are_no_others() -> None:
    assert place([None] * 4, [0, 40, 80, 120])[0] == [0, 40, 80, 120]


def test_a_decoder_s_delay_is_no_delay_of_the_picture() -> None:
    timeline = Timeline(MS, Fraction(25))
    timeline.first_dts = 0
    held_back: list[int | None] = [80, 120, 160, None, None]  # the last two come when the decoder is drained
    assert [timeline.place(None, dts)[0] for dts in held_back] == [0, 40, 80, 120, 160]
    assert timeline.repaired == 0

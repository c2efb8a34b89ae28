"""What a list gives twice."""

from __future__ import annotations

from gtasr_video.media.streams.repeats import Repeats


def new_in(repeats: Repeats, stream: str) -> str:
    """Return what is new in `stream`: letters are key pictures, points the pictures and sound between them."""
    return "".join(one for one in stream if repeats.is_new(one.encode(), key=one != "."))


def had_again(before: str, after: str) -> str:
    repeats = Repeats()
    assert new_in(repeats, before) == before
    repeats.restart()
    return new_in(repeats, after)


def test_the_last_segments_are_left_out_when_they_come_again() -> None:
    assert had_again("a..b..c..", "b..c..d..e.") == "d..e."
    assert had_again("a..b..c..", "b..c..") == ""
    assert had_again("a..b..c..", "a..b..c..") == ""


def test_what_is_new_comes_whole() -> None:
    assert had_again("a..b..c..", "x..b..c..") == "x..b..c.."
    assert had_again("", "a..") == "a.."
    assert had_again("a..b..c..", "b..x..c..") == "x..c.."


def test_a_picture_that_stands_still_is_left_out_once_at_most() -> None:
    assert had_again("a..a..a..", "a..a..a..a..") == "a..a..a.."


def test_a_stream_without_key_pictures_is_not_held_up_for_ever() -> None:
    assert 0 < len(had_again("a..", "." * 1000)) < 1000

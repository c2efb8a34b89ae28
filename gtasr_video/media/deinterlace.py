"""Fields to frames: told by flags or by looking, made progressive by bwdif, frame for frame.

bwdif (FFmpeg's) predicts the missing lines of each frame's first field from the fields around it in time and space. One
frame comes out for one that goes in, so that every time stays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice
from typing import Any, Final, Literal, NamedTuple

import av
import av.filter

from gtasr_video.media.decoder import StreamFacts
from gtasr_video.media.hardware import on_host

Deinterlace = Literal["auto", "always", "never"]

# Lines of the systems that have fields; other pictures are not looked at.
_LINES: Final = {480, 486, 512, 576, 608, 1080, 1088}
_FASTEST: Final = Fraction(31)
TELECINE: Final = (
    "is telecined film (3:2 pulldown): two frames in five mix two pictures; they are deinterlaced like video, and "
    "undoing the pulldown first (ffmpeg -vf fieldmatch,decimate) gives the film's own frames"
)
SOFT_TELECINE: Final = (
    "is film that its stream tells players to spread over fields (soft 3:2 pulldown): the film's own frames are "
    "enlarged, each at its time"
)
PROBED: Final = 60  # frames that are looked at
_FEWEST: Final = 12  # frames that must show fields
_TELECINE_SHARE: Final = (0.25, 0.6)  # of frames that repeat a field: 2 in 5 where film was made 60 fields a second
_FILM: Final = Fraction(24000, 1001)
_CLOSE: Final = 0.02  # as times in milliseconds are to what they stand for


class Timed(NamedTuple):
    """A decoded picture with its final time in ticks.

    cut       where it does not continue the one before
    duration  ticks that its stream says it lasts, 0 where that is nothing
    """

    picture: av.VideoFrame
    pts: int
    cut: bool
    duration: int = 0


@dataclass(frozen=True, slots=True)
class Fields:
    """What the pictures of a stream were found to be.

    parity    tff or bff where fields were seen, "" where frames are progressive or nothing can be told
    telecine  whether film was spread over fields (3:2 pulldown)
    soft_telecine  whether players are told to do that: its frames are whole, and last three fields and two in turns
    """

    parity: str = ""
    telecine: bool = False
    soft_telecine: bool = False


def look(pictures: Iterable[av.VideoFrame]) -> Fields:
    """Return what the first pictures of a stream show, by FFmpeg's idet and by how long each lasts."""
    graph: Any = None
    seen, metadata = 0, {}
    times: list[float | None] = []
    for picture in islice(pictures, PROBED):
        times.append(picture.time)
        graph = graph or _graph(picture, "idet", "")
        for judged in _pushed(graph, picture):
            seen, metadata = seen + 1, judged.metadata
    return replace(_judged(metadata, seen), soft_telecine=_last_in_turns(times))


def _last_in_turns(times: list[float | None]) -> bool:
    """Return whether pictures shown at `times` last three fields and two in turns, at the rate of film."""
    film = []
    for begin, middle, end in zip(times, times[1:], times[2:], strict=False):
        if begin is not None and middle is not None and end is not None and end > begin:
            longer = max(middle - begin, end - middle) / (end - begin)
            film.append(abs((end - begin) * float(_FILM) / 2 - 1) < _CLOSE and abs(longer - 0.6) < _CLOSE)
    return len(film) >= _FEWEST and sum(film) > 0.9 * len(film)


def _judged(metadata: dict[str, str], seen: int) -> Fields:
    names = ("multiple.tff", "multiple.bff", "multiple.progressive", "repeated.top", "repeated.bottom")
    tff, bff, progressive, *repeats = (float(metadata.get(f"lavfi.idet.{name}", 0)) for name in names)
    most, least = max(tff, bff), min(tff, bff)
    # Fine patterns look like fields of either order now and then; fields have one order throughout.
    if most < _FEWEST or least > most / 10:
        return Fields()
    low, high = _TELECINE_SHARE
    telecine = low < sum(repeats) / seen < high
    if progressive > most / 4 and not telecine:
        return Fields()
    return Fields("tff" if tff > bff else "bff", telecine)


class Deinterlacer:
    """Makes whole pictures of fields where a stream has them.

    mode     auto goes by what each frame says of itself; where frames say nothing, by what the first ones show
    look     returns what they show; a stream that cannot be looked at ahead of time says `Fields` ()
    active   whether pictures are changed; fields: what was seen
    """

    def __init__(self, mode: Deinterlace, look: Callable[[], Fields]) -> None:
        self.active, self.fields = mode == "always", Fields()
        self._mode, self._look = mode, look
        self._seen: str | None = None  # the order of fields that only looking told; None before the first picture

    def pictures(self, frames: Iterator[Timed], facts: StreamFacts) -> Iterator[Timed]:
        """Yield `frames`, whole ones instead of such that consist of fields; `facts` of their stream.

        A frame whose fields are looked at comes out when the next one has gone in; others are not held back until
        the first such one has come.
        """
        first = next(frames, None)
        if first is None:
            return
        if self._seen is None:
            self._decide(first.picture, facts)
        frames = chain([first], frames)
        if self._mode == "never":
            yield from frames
        elif self._mode == "always" or self._seen:
            yield from deinterlaced(frames, self._seen or "", only_flagged=False)
        else:
            yield from self._flagged(frames)

    def _decide(self, picture: av.VideoFrame, facts: StreamFacts) -> None:
        says = picture.interlaced_frame or facts.field_order > 1
        # Other pictures that say nothing have no fields.
        may = picture.height in _LINES and (facts.frame_rate is None or facts.frame_rate < _FASTEST)
        if self._mode == "auto" and (says or may):
            self.fields = self._look()
            self.active = bool(says or self.fields.parity)
        self._seen = "" if picture.interlaced_frame else self.fields.parity

    def _flagged(self, frames: Iterator[Timed]) -> Iterator[Timed]:
        """Yield `frames`, those that say that they are interlaced made whole."""
        for timed in frames:
            if timed.picture.interlaced_frame:
                self.active = True
                yield from deinterlaced(chain([timed], frames), "", only_flagged=True)
                return
            yield timed


def _graph(picture: av.VideoFrame, name: str, arguments: str) -> Any:
    graph: Any = av.filter.Graph()
    source = graph.add_buffer(
        width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1, 1000)
    )
    middle, sink = graph.add(name, arguments), graph.add("buffersink")
    source.link_to(middle)
    middle.link_to(sink)
    graph.configure()
    return graph


def _pushed(graph: Any, picture: av.VideoFrame | None) -> list[av.VideoFrame]:
    """Return the pictures that come out of `graph` after `picture`, or at its end (None)."""
    graph.push(picture)
    out = []
    while True:
        try:
            out.append(graph.pull())
        except (av.BlockingIOError, av.EOFError):
            return out


def deinterlaced(frames: Iterable[Timed], parity: str, *, only_flagged: bool) -> Iterator[Timed]:
    """Yield `frames` with their fields made into whole pictures; all else stays.

    parity        tff, bff, or "" to take each frame's own word
    only_flagged  leave frames alone that do not say that they are interlaced
    """
    arguments = f"mode=send_frame:parity={parity or 'auto'}:deint={'interlaced' if only_flagged else 'all'}"
    waiting: deque[Timed] = deque()
    graph: Any = None
    form: tuple[str, int, int] | None = None
    for timed in frames:
        timed = timed._replace(picture=on_host(timed.picture))
        picture = timed.picture
        found = (picture.format.name, picture.width, picture.height)
        if graph is not None and (timed.cut or found != form):
            yield from _matched(_pushed(graph, None), waiting)
            graph = None
        if graph is None:
            graph, form = _graph(picture, "bwdif", arguments), found
        waiting.append(timed)
        yield from _matched(_pushed(graph, picture), waiting)
    if graph is not None:
        yield from _matched(_pushed(graph, None), waiting)


def _matched(made: list[av.VideoFrame], waiting: deque[Timed]) -> Iterator[Timed]:
    """Yield each picture made with the time of the one it was made from: they come in order."""
    for picture in made:
        yield waiting.popleft()._replace(picture=picture)

"""Fields to frames: told by flags or by looking, made progressive by bwdif, frame for frame.

bwdif (FFmpeg's) predicts the missing lines of each frame's first field from the fields around it in time and space. One
frame comes out for one that goes in, so that every time stays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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
PROBED: Final = 60  # frames that are looked at
_FEWEST: Final = 12  # frames that must show fields
_TELECINE_SHARE: Final = (0.25, 0.6)  # of frames that repeat a field: 2 in 5 where film was made 60 fields a second


class Timed(NamedTuple):
    """A decoded picture with its final time in ticks; `cut` where it does not continue the one before."""

    picture: av.VideoFrame
    pts: int
    cut: bool


@dataclass(frozen=True, slots=True)
class Fields:
    """What the pictures of a stream were found to be.

    parity    tff or bff where fields were seen, "" where frames are progressive or nothing can be told
    telecine  whether film was spread over fields (3:2 pulldown)
    """

    parity: str = ""
    telecine: bool = False


def look(pictures: Iterable[av.VideoFrame]) -> Fields:
    """Return what the first pictures of a stream show, by FFmpeg's idet."""
    graph: Any = None
    seen, metadata = 0, {}
    for picture in islice(pictures, PROBED):
        graph = graph or _graph(picture, "idet", "")
        for judged in _pushed(graph, picture):
            seen, metadata = seen + 1, judged.metadata
    return _judged(metadata, seen)


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
    """Makes whole pictures of fields where a stream has them, decided once, at its first picture.

    mode     auto goes by what the stream says, and where that is nothing by what its first pictures show
    look     returns what they show
    active   whether pictures are changed; fields: what was seen
    """

    def __init__(self, mode: Deinterlace, look: Callable[[], Fields]) -> None:
        self.active, self.fields = mode == "always", Fields()
        self._mode, self._look = mode, look
        self._says: bool | None = None

    def pictures(self, frames: Iterator[Timed], facts: StreamFacts) -> Iterator[Timed]:
        """Yield `frames`, whole ones instead of such that consist of fields; `facts` of their stream."""
        first = next(frames, None)
        if first is None:
            return
        if self._says is None:
            self._says = first.picture.interlaced_frame or facts.field_order > 1
            self._decide(first.picture, facts.frame_rate)
        frames = chain([first], frames)
        if self.active:
            parity = "" if self._says else self.fields.parity
            frames = (timed._replace(picture=on_host(timed.picture)) for timed in frames)
            frames = deinterlaced(frames, parity, only_flagged=self._says and self._mode == "auto")
        yield from frames

    def _decide(self, picture: av.VideoFrame, rate: Fraction | None) -> None:
        # Other pictures that say nothing have no fields.
        may = picture.height in _LINES and (rate is None or rate < _FASTEST)
        if self._mode == "auto" and (self._says or may):
            self.fields = self._look()
            self.active = bool(self._says or self.fields.parity)


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
        timed = waiting.popleft()
        picture.duration = timed.picture.duration  # the filter counts in half ticks
        yield timed._replace(picture=picture)

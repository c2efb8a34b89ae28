"""Pictures of 256 colours, chosen for each picture: what GIF holds."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import av.filter


class Palette:
    """FFmpeg's palettegen and paletteuse, one picture at a time."""

    def __init__(self) -> None:
        self._graph: Any = None

    def reduce(self, picture: av.VideoFrame) -> av.VideoFrame:
        """Return `picture`, planar RGB with alpha or without, in the 256 colours that suit it best."""
        self._graph = self._graph or _graph(picture)
        pts, base = picture.pts, picture.time_base
        self._graph.push(picture)
        reduced: av.VideoFrame = self._graph.pull()
        reduced.pts, reduced.time_base = pts, base or Fraction(1)
        return reduced


def _graph(picture: av.VideoFrame) -> Any:
    graph: Any = av.filter.Graph()
    size = {"width": picture.width, "height": picture.height}
    source = graph.add_buffer(**size, format=picture.format, time_base=picture.time_base)
    split, choose = graph.add("split"), graph.add("palettegen", "stats_mode=single")
    use, sink = graph.add("paletteuse", "new=1"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(choose, 0, 0)
    split.link_to(use, 1, 0)
    choose.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph

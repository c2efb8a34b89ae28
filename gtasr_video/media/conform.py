"""Decoded pictures to frames that all look like the first one, and what there is to say about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import av
from torch import Tensor

from gtasr_video.frames import Frame, PixelLayout, VideoSpec
from gtasr_video.media import tags
from gtasr_video.media.decoder import StreamFacts
from gtasr_video.media.deinterlace import SOFT_TELECINE, TELECINE, Deinterlacer, Timed
from gtasr_video.media.geometry import projections_left_out, stated_crop, stereo_mode
from gtasr_video.media.hardware import device_planes, format_name, is_on_device
from gtasr_video.media.hdr import has_no_base, hdr_of, layers_left_out
from gtasr_video.media.planes import Converter, is_transparent, nearest_layout, to_planes, without_alpha

# JPEG knows no alpha: FFmpeg gives one to pictures of four inks, which it has turned to RGB.
_OPAQUE: Final = frozenset({"mjpeg"})


class Conformer:
    """Makes frames of the pictures of one stream, whose first one says what all look like.

    A picture of another size or format is brought to the first one's by swscale, marked as a cut and counted. What
    the container hides of it is cut off; of fields after whole pictures were made of them.

    facts        what the container says of the stream
    fields       what has made whole pictures of fields, if anything
    orientation  (rotation, mirrored) where something besides the stream says it
    spec         what all frames share
    count        how many frames were made, size_changes: how many of them had another size
    """

    def __init__(
        self,
        first: av.VideoFrame,
        facts: StreamFacts,
        fields: Deinterlacer,
        orientation: tuple[int, bool] | None = None,
    ) -> None:
        self._facts, self._fields = facts, fields
        self.count = self.size_changes = 0
        self._pix_fmt = format_name(first)
        self._coded = (first.width, first.height)
        self._crop = stated_crop(facts.description, *self._coded)
        sides = tags.side_data(first, facts.codec)
        self.display_matrix = tags.display_matrix(sides)
        self.stereo_mode = stereo_mode(sides)
        spec = _spec_of(first, facts, sides, orientation or tags.orientation(self.display_matrix))
        width, height = self._crop.size(*self._coded)
        self.spec = replace(spec, width=width, height=height, interlaced=spec.interlaced and not fields.active)
        self._oddities = (
            *tags.oddities(first, self.spec.interlaced),
            *layers_left_out(sides, facts.description),
            *projections_left_out(facts.description),
        )
        self._converter = Converter(spec.layout, *self._coded, full_range=spec.color.full_range)

    @property
    def needs_layer(self) -> bool:
        """Whether the picture's colours are wrong without a Dolby Vision layer, which is not read."""
        return has_no_base(self._facts.description)

    def frame(self, timed: Timed, duration: int) -> Frame:
        """Return the next frame, which lasts `duration` ticks. Its planes may share the decoder's memory."""
        picture, cut = timed.picture, timed.cut
        changed = (picture.width, picture.height) != self._coded
        self.size_changes += changed
        planes = self._planes(picture)
        self.count += 1
        return Frame(planes, timed.pts, duration, cut or changed or self.count == 1, picture.key_frame)

    def _planes(self, picture: av.VideoFrame) -> tuple[Tensor, ...]:
        layout = self.spec.layout
        if is_on_device(picture):
            return self._crop.of(device_planes(picture, layout), layout)
        return self._crop.of(to_planes(self._converter.convert(picture), layout), layout)

    def facts(self) -> dict[str, Any]:
        """Return what the stream is, and how its pictures were changed so far, as plain JSON-able values."""
        spec, stream, color = self.spec, self._facts, self.spec.color
        return {
            "container": stream.container,
            "codec": stream.codec,
            "pix_fmt": self._pix_fmt,
            "layout": spec.layout.name,
            "width": spec.width,
            "height": spec.height,
            "frame_rate": str(spec.frame_rate) if spec.frame_rate else None,
            "time_base": str(spec.time_base),
            "matrix": color.matrix,
            "full_range": color.full_range,
            "primaries": color.primaries,
            "transfer": color.transfer,
            "chroma_siting": color.chroma_siting,
            "sample_aspect": str(spec.sample_aspect),
            "rotation": spec.rotation,
            "mirrored": spec.mirrored,
            "interlaced": spec.interlaced,
            "deinterlaced": self._fields.active,
            "fields": self._fields.fields.parity or None,
            "telecine": self._fields.fields.telecine,
            "soft_telecine": self._fields.fields.soft_telecine,
            "transparent": spec.layout.alpha,
            "frames": self.count,
            "size_changes": self.size_changes,
        }

    def warnings(self, name: str, corrupt_packets: int) -> Iterator[str]:
        """Yield one line for each thing in the stream that was not as it should be; `name` is what they call it."""
        for oddity in self._oddities:
            yield f"{name} {oddity}"
        if self._fields.fields.telecine:
            yield f"{name} {TELECINE}"
        if self._fields.fields.soft_telecine:
            yield f"{name} {SOFT_TELECINE}"
        if corrupt_packets:
            yield f"{name}: {corrupt_packets} damaged packets; what could be decoded was kept"
        if self.size_changes:
            size = f"{self.spec.width}x{self.spec.height}"
            yield f"{name}: the picture size changes; {self.size_changes} frames were resized to {size}"


def _spec_of(
    picture: av.VideoFrame, facts: StreamFacts, sides: dict[str, bytes], orientation: tuple[int, bool]
) -> VideoSpec:
    rotation, mirrored = orientation
    return VideoSpec(
        width=picture.width,
        height=picture.height,
        time_base=facts.time_base,
        layout=_layout_of(picture, facts.codec),
        color=tags.color_of(picture, facts.siting, facts.colors),
        frame_rate=facts.frame_rate,
        sample_aspect=facts.sample_aspect,
        rotation=rotation,
        mirrored=mirrored,
        interlaced=picture.interlaced_frame or facts.field_order > 1,
        hdr=hdr_of(sides),
    )


def _layout_of(picture: av.VideoFrame, codec: str) -> PixelLayout:
    transparent = codec not in _OPAQUE and is_transparent(picture)
    layout = nearest_layout(format_name(picture), alpha=transparent)
    return layout if transparent else without_alpha(layout)

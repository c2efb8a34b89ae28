"""The encoder of the picture: frames in, packets out, set up the same way wherever it runs."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

from av.container import OutputContainer
from av.video.stream import VideoStream

from gtasr_video.frames import Frame
from gtasr_video.media import tags
from gtasr_video.media.codecs import PACKED, hush
from gtasr_video.media.encoding import Plan
from gtasr_video.media.palette import Palette
from gtasr_video.media.planes import from_planes
from gtasr_video.media.source import Packet

_BITEXACT_CODEC: Final = 1 << 23  # AV_CODEC_FLAG_BITEXACT: no library version in the stream
USUAL_RATE: Final = Fraction(25)
_FASTEST: Final = Fraction(240)  # encoders refuse higher nominal rates; timestamps are unaffected


class PictureEncoder:
    """A picture stream of `container` and the encoder behind it, as `plan` wants them."""

    def __init__(self, container: OutputContainer, plan: Plan) -> None:
        self._plan = plan
        self._palette = Palette()
        hush(plan.codec.encoder)
        rate = min(plan.spec.frame_rate or USUAL_RATE, _FASTEST)
        stream = container.add_stream(plan.codec.encoder, rate=rate, options=plan.options)
        assert isinstance(stream, VideoStream)
        self.stream = stream
        self._used = False
        self._set_up()

    def _set_up(self) -> None:
        plan, spec = self._plan, self._plan.spec
        self.stream.time_base = spec.time_base
        context: Any = self.stream.codec_context
        context.width, context.height, context.pix_fmt = plan.width, plan.height, plan.pix_fmt
        context.time_base = spec.time_base
        context.sample_aspect_ratio = spec.sample_aspect
        context.colorspace = tags.matrix_code(spec.color)
        context.color_range = 2 if spec.color.full_range else 1
        context.color_primaries, context.color_trc = spec.color.primaries, spec.color.transfer
        context.thread_count = 0
        context.flags |= _BITEXACT_CODEC
        if plan.codec.name == "h265" and plan.container.muxer in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # the tag Apple's players ask for

    def open(self) -> None:
        """Start the encoder; what it cannot do is refused here."""
        self.stream.codec_context.open()

    @property
    def header(self) -> bytes:
        """What the encoder wants at the head of a file, where the container keeps it there."""
        return bytes(self.stream.codec_context.extradata or b"")

    def encode(self, frame: Frame, pts: int) -> list[Packet]:
        """Return the packets that are ready after `frame`, to be shown at `pts`."""
        plan = self._plan
        packed = plan.pix_fmt in PACKED
        picture = from_planes(frame.planes, plan.spec.layout, plan.width, plan.height, packed=packed)
        picture.pts, picture.time_base = pts, plan.spec.time_base
        if plan.codec.name == "prores":
            self._say_colours(picture)
        if plan.pix_fmt == "pal8":
            picture = self._palette.reduce(picture)
        self._used = True
        return list(self.stream.encode(picture))

    def _say_colours(self, picture: Any) -> None:
        """Let `picture` say what its stream says: ProRes writes it into every frame, and readers believe that."""
        color = self._plan.spec.color
        picture.colorspace = tags.matrix_code(color)
        picture.color_primaries, picture.color_trc = color.primaries, color.transfer

    def drain(self) -> list[Packet]:
        """Return the packets still held back; an encoder that was never used is left alone."""
        return list(self.stream.encode(None)) if self._used else []

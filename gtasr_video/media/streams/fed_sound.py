"""Sound of a stream in an output: copied where those who receive it take it, else encoded anew, or silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Protocol

import av
import torch
from av.audio.stream import AudioStream
from av.container import OutputContainer

from gtasr_video.media.audio import Reencoder, copied_track
from gtasr_video.media.codecs import Container
from gtasr_video.media.holding import way_into
from gtasr_video.media.packet_times import Rising
from gtasr_video.media.source import Packet, codec_name
from gtasr_video.media.streams.sound_encoder import AacTrack, SoundEncoder
from gtasr_video.media.streams.sound_queue import SoundForm, SoundPacket, SoundQueue

_SILENT_RATE: Final = 48_000


@dataclass(frozen=True, slots=True)
class SoundWish:
    """What is wanted of the sound of an output.

    taken     codecs that may be copied, None: all that its format can hold
    first     carry only the first track: those who receive a stream play one
    anew      encode it anew in any case
    loudness  what to bring it to, in LUFS, which encodes it anew; None leaves it
    silence   write silence if the source has no sound
    none      leave sound out
    """

    taken: frozenset[str] | None = None
    first: bool = False
    anew: bool = False
    loudness: float | None = None
    silence: bool = False
    none: bool = False


class _Track(Protocol):
    """One track of the output."""

    def convert(self, item: SoundPacket) -> Iterable[Packet]:
        """Return what can be written after `item`."""

    def flush(self) -> Iterable[Packet]:
        """Return the rest."""

    @property
    def offset_s(self) -> float:
        """Seconds by which the last sound was written early; negative: late."""


class FedSound:
    """The tracks of `queue`, written into an output: what `SideStreams` is to a file."""

    def __init__(self, queue: SoundQueue, wish: SoundWish) -> None:
        self._queue, self._wish = queue, wish
        self._tracks: dict[int, _Track] = {}
        self._silence: AacTrack | None = None
        self._report: list[dict[str, Any]] = []
        self._begin: Fraction | None = None

    def add_to(self, output: OutputContainer, form: Container, put: Callable[[Packet], None]) -> None:
        """Add a stream to `output` for each track; `put` will write its packets."""
        self._output, self._put = output, put
        for number, stream in enumerate(self._queue.tracks):
            self._add(number, stream, form)
        if not self._tracks and self._wish.silence and form.sound:
            self._silence = AacTrack(output, _SILENT_RATE, 2)

    def _add(self, number: int, stream: AudioStream, form: Container) -> None:
        entry = {"index": stream.index, "type": "audio", "codec": codec_name(stream), "language": stream.language}
        reason = self._unwanted(number)
        way = way_into(form, stream, "", chapters=False)
        if reason or way.kind == "none":
            self._report.append({**entry, "action": "left out", "reason": reason or way.reason})
            return
        track = self._track(stream, form, copied=way.kind == "copy")
        self._tracks[number] = track
        self._report.append({**entry, "action": "copied" if isinstance(track, _Copied) else "converted"})

    def _unwanted(self, number: int) -> str | None:
        if self._wish.none:
            return "no sound was asked for"
        return "those who receive it play one track" if self._wish.first and number else None

    def _track(self, stream: AudioStream, form: Container, *, copied: bool) -> _Track:
        wish = self._wish
        fits = copied and (wish.taken is None or codec_name(stream) in wish.taken) and not _lacks_head(stream, form)
        if fits and not wish.anew and wish.loudness is None:
            target = copied_track(stream, self._output)
            if stream.language:
                target.metadata["language"] = stream.language
            return _Copied(stream, target, Rising(target, self._output))
        if form.sound == "aac":
            return SoundEncoder(stream, self._output, wish.loudness)
        return _Reencoded(Reencoder(stream, self._output, form.sound))

    def begin(self, time: Fraction) -> None:
        """Leave out sound that is due before `time`, when the picture begins."""
        self._begin = time

    def copy_until(self, time: Fraction | None) -> None:
        """Write every packet that is due before `time` in seconds; None writes all there are."""
        for item in self._queue.take(time):
            if item.track in self._tracks and (self._begin is None or item.time >= self._begin):
                self._pass(self._tracks[item.track], item)

    def _pass(self, track: _Track, item: SoundPacket) -> None:
        try:
            for packet in track.convert(item):
                self._put(packet)
        except av.InvalidDataError:
            # AAC of MPEG-TS has to lose its headers, of which packets that were lost on their way leave none.
            if not isinstance(track, _Copied):
                raise
            track.damaged += 1

    def silence_until(self, time: Fraction) -> None:
        """Where silence stands in for sound, write it up to `time` in seconds."""
        track = self._silence
        if track is None:
            return
        track.begin(time)
        missing = round((time - track.end) * track.rate)
        if missing > 0:
            for packet in track.push(torch.zeros(track.channels, missing)):
                self._put(packet)

    def finish(self) -> None:
        """Write what is left and drain what is encoded."""
        self.copy_until(None)
        for track in self._tracks.values():
            for packet in track.flush():
                self._put(packet)
        for packet in self._silence.flush() if self._silence else ():
            self._put(packet)

    @property
    def offset_s(self) -> float | None:
        """Seconds by which sound was last written ahead of its time beside the picture, None without sound."""
        return next((track.offset_s for track in self._tracks.values()), None)

    def facts(self) -> list[dict[str, Any]]:
        """Return one entry a track: index, type, codec, language, action (copied, converted, left out), reason."""
        silence = [{"type": "audio", "codec": "aac", "action": "silence"}] if self._silence else []
        return [dict(entry) for entry in self._report] + silence

    def warnings(self) -> Iterator[str]:
        """Yield one line for each thing that could not be carried over as it was."""
        for number, track in self._tracks.items():
            if isinstance(track, _Copied) and track.rising.repaired:
                yield f"sound {number}: {track.rising.repaired} timestamps were out of order"
            if isinstance(track, _Copied) and track.damaged:
                yield f"sound {number}: {track.damaged} damaged packets were left out"
            if isinstance(track, _Copied) and track.misfits:
                yield (
                    f"sound {number}: {track.misfits} packets left out: the source came back with {track.found}, but "
                    f"{track.form} is what the output began with; --sound aac takes both"
                )
            if isinstance(track, _Reencoded) and track.mixed:
                yield f"sound {number}: {track.mixed}"
            if isinstance(track, SoundEncoder) and track.moved > 1:
                yield f"sound {number} was off its time {track.moved} times, and was moved back"


def _lacks_head(stream: AudioStream, form: Container) -> bool:
    """Return whether Matroska in a pipe would have to know of `stream` at once what only its packets say."""
    return form.muxer == "matroska" and "live" in form.options and SoundForm.of(stream).adts


class _Copied:
    """Packets as they are, on decoding times that increase; what has another form than `source` is left out."""

    def __init__(self, source: AudioStream, target: AudioStream, rising: Rising) -> None:
        self.rising = rising
        self.misfits = self.damaged = 0
        self.offset_s = 0.0
        self.form = self.found = SoundForm.of(source)
        self._source: object = source
        self._target = target

    def convert(self, item: SoundPacket) -> list[Packet]:
        packet = item.packet
        if packet.stream is not self._source:
            self._source, self.found = packet.stream, SoundForm.of(packet.stream)
        if self.found != self.form:
            self.misfits += 1
            return []
        if packet.dts is None:
            packet.dts = packet.pts if packet.pts is not None else round(item.time / packet.time_base)
        if packet.pts is None:
            packet.pts = packet.dts
        due = packet.pts
        self.rising.settle(packet)
        self.offset_s = float((due - packet.pts) * packet.time_base)
        packet.stream = self._target
        return [packet]

    def flush(self) -> list[Packet]:
        return []


class _Reencoded:
    """Sound for formats that do not hold AAC."""

    offset_s = 0.0

    def __init__(self, reencoder: Reencoder) -> None:
        self._reencoder = reencoder
        self.mixed = reencoder.mixed

    def convert(self, item: SoundPacket) -> Iterator[Packet]:
        return self._reencoder.convert(item.packet)

    def flush(self) -> Iterator[Packet]:
        return self._reencoder.convert(None)

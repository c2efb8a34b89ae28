"""Sound of a stream in an output: copied where the container takes it, else encoded again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from av.audio.stream import AudioStream
from av.container import OutputContainer

from gtasr_video.media.audio import Reencoder
from gtasr_video.media.codecs import Container
from gtasr_video.media.holding import way_into
from gtasr_video.media.sound_queue import SoundPacket, SoundQueue
from gtasr_video.media.source import Packet, codec_name


@dataclass(slots=True)
class _Track:
    target: AudioStream
    reencoder: Reencoder | None = None
    last_dts: int | None = None
    repaired: int = 0


class FedSound:
    """The tracks of `queue`, written into an output as the picture advances: what `SideStreams` is to a file."""

    def __init__(self, queue: SoundQueue) -> None:
        self._queue = queue
        self._tracks: dict[int, _Track] = {}
        self._report: list[dict[str, Any]] = []

    def add_to(
        self,
        output: OutputContainer,
        form: Container,
        put: Callable[[Packet], None],
        *,
        taken: frozenset[str] | None = None,
    ) -> None:
        """Add a stream to `output` for each track; `put` will write its packets.

        taken   codecs that may be copied, None: all that `form` can hold
        """
        self._output, self._put, self._taken = output, put, taken
        for number, stream in enumerate(self._queue.tracks):
            self._add(number, stream, form)

    def _add(self, number: int, stream: AudioStream, form: Container) -> None:
        entry = {"index": stream.index, "type": "audio", "codec": codec_name(stream), "language": stream.language}
        way = way_into(form, stream, "", chapters=False)
        if way.kind == "none":
            self._report.append({**entry, "action": "left out", "reason": way.reason})
            return
        if way.kind == "copy" and (self._taken is None or codec_name(stream) in self._taken):
            track = _Track(self._output.add_stream_from_template(stream, opaque=True))
        else:
            reencoder = Reencoder(stream, self._output, form.sound)
            track = _Track(reencoder.stream, reencoder)
        track.target.metadata.update({"language": stream.language} if stream.language else {})
        self._tracks[number] = track
        self._report.append({**entry, "action": "converted" if track.reencoder else "copied"})

    def copy_until(self, time: Fraction | None) -> None:
        """Write every packet that is due before `time` in seconds; None writes all there are."""
        for item in self._queue.take(time):
            if item.track in self._tracks:
                self._write(item, self._tracks[item.track])

    def _write(self, item: SoundPacket, track: _Track) -> None:
        packet = item.packet
        if track.reencoder is not None:
            for made in track.reencoder.convert(packet):
                self._put(made)
            return
        if packet.dts is None:
            packet.dts = packet.pts if packet.pts is not None else round(item.time / packet.time_base)
        if packet.pts is None:
            packet.pts = packet.dts
        if track.last_dts is not None and packet.dts <= track.last_dts:
            track.repaired += 1
            packet.dts = track.last_dts + 1
            packet.pts = max(packet.pts, packet.dts)
        track.last_dts = packet.dts
        packet.stream = track.target
        self._put(packet)

    def finish(self) -> None:
        """Write what is left and drain what is encoded."""
        self.copy_until(None)
        for track in self._tracks.values():
            if track.reencoder is not None:
                for made in track.reencoder.convert(None):
                    self._put(made)

    def facts(self) -> list[dict[str, Any]]:
        """Return one entry a track: index, type, codec, language, action (copied, converted, left out), reason."""
        return [dict(entry) for entry in self._report]

    def warnings(self) -> Iterator[str]:
        """Yield one line for each thing that could not be carried over as it was."""
        for entry in self._report:
            if entry["action"] == "left out":
                yield f"sound {entry['index']} was left out: {entry['reason']}"
        for number, track in self._tracks.items():
            if track.repaired:
                yield f"sound {number}: {track.repaired} timestamps were out of order"

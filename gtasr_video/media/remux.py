"""Everything of the source that is not the picture: sound, subtitles, covers, attachments, data, chapters, tags.

The writer owns a second container on the source file and copies packets from there as the picture advances; see
docs/decisions/0003-sound-and-side-streams.md for why.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any, Final

import av
from av.container import OutputContainer
from av.stream import Stream

from gtasr_video.media import labels, tags
from gtasr_video.media.audio import Reencoder, copied_track
from gtasr_video.media.carried import Carried, Part, Placed
from gtasr_video.media.codecs import ALIASES, ANIMATIONS, Container
from gtasr_video.media.holding import Way, cover_file, described, entry_of, refuse, way_into
from gtasr_video.media.packet_times import Rising
from gtasr_video.media.side_packets import NEAR_SECONDS, SidePackets
from gtasr_video.media.source import Packet, codec_name, is_cover, open_input, packets_of, seconds
from gtasr_video.media.subtitles import OneAtATime, TextConverter
from gtasr_video.media.timecode import shifted

# Packets of one stream that wait for sound of another: more would take too much memory.
_MOST_WAITING: Final = 10_000
# Sound that has nothing for so long has a gap there.
_GAP_SECONDS: Final = Fraction(1, 2)
_ACTIONS: Final = {"copy": "copied", "attachment": "copied", "rewritten": "rewritten", "none": "left out"}


class SideStreams:
    """The streams of `path` other than the picture's, copied into an output.

    picture   index of the stream that is not copied because it is what the frames come from
    part      what of the source is kept
    drop_unsupported   leave out what the output cannot hold, instead of refusing
    """

    def __init__(
        self,
        path: Path,
        picture: int,
        part: Part,
        *,
        drop_unsupported: bool = False,
    ) -> None:
        self.path = path
        self._container = open_input(path)
        self._descriptions = tags.describe(self._container)
        self._chapters = list(self._container.chapters())
        self._tags = labels.lasting(self._container.metadata)
        self._picture, self._part = picture, part
        self._drop = drop_unsupported
        self._carried: dict[int, Carried] = {}
        self._report: list[dict[str, Any]] = []
        self._unsupported: list[Stream] = []
        self._lost_tags: list[str] = []
        self._lost_labels: dict[str, list[str]] = {}  # by the stream's description
        self._absent: list[int] = []
        self._covers: list[Packet] = []
        self._held: list[tuple[Fraction, int, Placed]] = []  # a heap by time
        self._waiting = Counter[int]()  # how many of them there are of each stream
        self._numbers = count()
        self._at_end = False

    def sample_rates(self) -> tuple[int, ...]:
        """Samples a second of each sound track that says so: one that is announced but never sent does not."""
        contexts = (s.codec_context for s in self._container.streams.audio)
        return tuple(c.sample_rate for c in contexts if c is not None and c.sample_rate)

    def needs_free_tags(self, form: Container) -> bool:
        """Return whether tags of the source need the muxer to name them freely, which MP4 and MOV can.

        Not with a cover, which has a place in the classic manner alone.
        """
        covers = any(is_cover(stream) for stream in self._container.streams.video)
        return form.muxer in ("mp4", "mov") and not covers and bool(self._without_place(form))

    def _without_place(self, form: Container) -> list[str]:
        return labels.without_classic_place(form.muxer, self._tags)

    def add_to(self, output: OutputContainer, form: Container, add_picture: Callable[[], Stream]) -> None:
        """Add a stream to `output` for each of the source's it can hold, in the source's order, and all tags.

        Raises UsageError naming the streams it cannot hold, and the containers that can, unless they may be dropped
        or no container at all can hold them.
        """
        self._output, self._form = output, form
        codec = ""
        for stream in self._container.streams:
            if stream.index == self._picture:
                target = add_picture()
                self._label(stream, target)
                self._move_timecode(target.metadata)
                codec = codec_name(target)
            else:
                self._add(stream)
        self._check_supported(ALIASES.get(codec, codec))
        output.metadata.update(self._tags)
        self._move_timecode(output.metadata)
        if not self.needs_free_tags(form):
            self._lost_tags = self._without_place(form)
        output.set_chapters(labels.chapters_between(self._chapters, self._part.origin, self._part.end))
        words = [index for index, carried in self._carried.items() if carried.kind == "subtitle"]
        self._packets = SidePackets(
            self.path, self._container, self._picture, self._carried.keys(), words, self._part.origin
        )

    def _add(self, stream: Stream) -> None:
        way = self._way(stream)
        carried = None
        try:
            carried = self._carry(stream, way)
        except (ValueError, av.FFmpegError) as error:
            way = Way("none", f"{way.reason or described(stream)}: {error}")
        self._note(stream, way)
        if way.kind == "none":
            self._unsupported.append(stream)
        if carried is not None:
            self._label(stream, carried.target)
            if not is_cover(stream):
                self._carried[stream.index] = carried

    def _label(self, stream: Stream, target: Stream) -> None:
        labels.copy_labels(stream, target, self._form.muxer)
        if lost := labels.without_place(stream, self._form.muxer):
            self._lost_labels[f"{stream.type} stream {stream.index}"] = lost

    def _way(self, stream: Stream) -> Way:
        return way_into(self._form, stream, self._descriptions.get(stream.index, ""), chapters=bool(self._chapters))

    def _carry(self, stream: Any, way: Way) -> Carried | None:
        """Add what becomes of `stream` to the output; None where nothing has to be copied later."""
        origin = self._part.origin
        shift = round(origin / stream.time_base) if origin and stream.time_base else 0
        if way.kind == "copy":
            target = (
                copied_track(stream, self._output)
                if stream.type == "audio"
                else self._output.add_stream_from_template(stream, opaque=True)
            )
            if is_cover(stream):
                self._covers.append(_cover_packet(_first_packet(self.path, stream.index), target))
            return Carried(target, stream.type, Rising(target, self._output), shift=shift)
        if way.kind == "attachment":
            self._output.add_attachment(*cover_file(stream, _first_packet(self.path, stream.index)))
        converter: Reencoder | TextConverter
        if way.kind == "sound":
            converter = Reencoder(stream, self._output, self._form.sound)
        elif way.kind == "text":
            made = OneAtATime if self._form.text == "mov_text" else TextConverter
            converter = made(stream, self._output, self._form.text)
        else:
            return None
        return Carried(converter.stream, stream.type, Rising(converter.stream, self._output), converter, shift)

    def _note(self, stream: Stream, way: Way) -> None:
        entry = {**entry_of(stream), "action": _ACTIONS.get(way.kind, "converted")}
        self._report.append(entry if way.reason is None else {**entry, "reason": way.reason})

    def _check_supported(self, codec: str) -> None:
        """Refuse what the output cannot hold and another container could."""
        if not self._drop:
            lost = [(stream, self._descriptions.get(stream.index, "")) for stream in self._unsupported]
            # What an animation cannot hold fits a video, which has another codec.
            wanted = None if self._form.muxer in ANIMATIONS else codec
            refuse(self.path, self._form.muxer, lost, wanted, chapters=bool(self._chapters))

    def _move_timecode(self, metadata: dict[str, str]) -> None:
        """Let the timecode of a part begin with the part."""
        picture: Any = self._container.streams[self._picture]
        rate = picture.average_rate or picture.guessed_rate
        for key in [key for key in metadata if key.lower() == "timecode"]:
            if self._part.origin is not None and rate:
                begin = seconds(picture.start_time, picture.time_base) or Fraction(0)
                metadata[key] = shifted(metadata[key], round((self._part.origin - begin) * rate), rate)

    def copy_until(self, time: Fraction) -> None:
        """Copy every packet whose output time in seconds is before `time`, as far as the file is read by then.

        It is read until there is sound of that time, which may lie behind others of later times, and they wait.
        """
        self._copy(time, self._is_behind)

    def _copy(self, time: Fraction | None, goes_on: Callable[[Fraction], bool]) -> None:
        """Copy what comes before `time`, reading as long as `goes_on` says so; with None all, to the file's end."""
        if self._covers:
            self._output.mux(self._covers)
            self._covers = []
        while self._held and (time is None or self._held[0][0] < time):
            *_, placed = heapq.heappop(self._held)
            self._waiting[placed.packet.stream_index] -= 1
            self._send(placed)
        while (time is None or goes_on(time)) and (packets := self._packets.read()) is not None:
            for placed in self._placed(packets):
                if time is None or placed.time < time:
                    self._send(placed)
                else:
                    self._hold(placed)
        for carried in self._carried.values():
            if time is not None and (ready := carried.due(time)):
                self._output.mux(ready)

    def _placed(self, packets: list[Packet]) -> Iterator[Placed]:
        edit_lists = self._form.muxer in ("mp4", "mov")
        for packet in packets:
            placed = self._carried[packet.stream_index].place(packet, self._part, edit_lists=edit_lists)
            if placed is not None:
                yield placed

    def _send(self, placed: Placed) -> None:
        carried = self._carried[placed.packet.stream_index]
        try:
            self._output.mux(carried.passed(placed))
        except av.InvalidDataError:
            # AAC of MPEG-TS has to lose its headers, of which packets that were lost on their way leave none.
            if carried.converter is not None:
                raise
            carried.refused()

    def _hold(self, placed: Placed) -> None:
        index = placed.packet.stream_index
        if self._at_end and self._waiting[index]:
            return  # one tells that the stream goes on
        self._waiting[index] += 1
        heapq.heappush(self._held, (placed.time, next(self._numbers), placed))

    def _is_behind(self, time: Fraction) -> bool:
        """Return whether reading has to go on so that nothing, and no sound at all, of before `time` is late."""
        late = {carried.kind for index, carried in self._carried.items() if not self._waiting[index]}
        if not late or max(self._waiting.values(), default=0) > _MOST_WAITING:
            return False
        return not self._is_read_until(time + NEAR_SECONDS if "audio" in late else time)

    def _is_open(self, end: Fraction) -> bool:
        """Return whether more of what comes before `end` may lie ahead: of sound always, until it has passed that."""
        late = [carried for index, carried in self._carried.items() if not self._waiting[index]]
        if any(carried.kind == "audio" and carried.end is not None for carried in late):
            return True
        return bool(late) and not self._is_read_until(end + NEAR_SECONDS)

    def _is_read_until(self, time: Fraction) -> bool:
        place = self._packets.place
        return place is not None and place - (self._part.origin or 0) >= time

    def finish(self, end: Fraction | None) -> None:
        """Copy what is left before `end` (output seconds; None: all) and drain what is encoded."""
        if end is None:
            self._copy(None, lambda _: True)
        else:
            self._at_end = True
            self._copy(end, self._is_open)
            self._expect_sound_until(end)
        for carried in self._carried.values():
            self._output.mux(carried.drained())
        if self._form.muxer in ("mp4", "mov"):
            self._leave_out_empty_tracks()

    def _expect_sound_until(self, end: Fraction) -> None:
        """Note that sound ends with the cut unless that of the source ends, or has a gap there."""
        gaps: dict[int, Fraction] = {}
        for *_, placed in sorted(self._held):
            gaps.setdefault(placed.packet.stream_index, placed.gap)
        for index, carried in self._carried.items():
            gap = gaps.get(index, _GAP_SECONDS if self._packets.ended else Fraction(0))
            if carried.kind == "audio" and carried.end is not None and gap < _GAP_SECONDS:
                carried.end = max(carried.end, end)

    def _leave_out_empty_tracks(self) -> None:
        """Say which streams are not in the file: MP4 has no tracks without packets, but an end for all subtitles."""
        for index, carried in self._carried.items():
            if not carried.sent and carried.kind != "subtitle":
                self._absent.append(carried.target.index)
                entry = next(entry for entry in self._report if entry["index"] == index)
                entry |= {"action": "left out", "reason": "nothing of it is in what was read"}

    def place(self, index: int) -> int:
        """Return the index in the finished file of the stream that was added to the output as number `index`."""
        return index - sum(absent < index for absent in self._absent)

    def sent(self, kind: str) -> dict[int, int]:
        """Return how many packets went to each stream of `kind` (audio, subtitle), by its index in the file."""
        targets = {c.target.index: c.sent for c in self._carried.values() if c.kind == kind}
        return {self.place(index): sent for index, sent in targets.items() if index not in self._absent}

    def sound_ends(self) -> dict[int, Fraction]:
        """Return at which second each sound stream should end, by its index in the file."""
        return {self.place(c.target.index): c.end for c in self._carried.values() if c.kind == "audio" and c.end}

    def facts(self) -> list[dict[str, Any]]:
        """Return one entry a stream: index, type, codec, language, action, reason where there is one.

        action   copied, converted, rewritten (by the muxer, from tags or chapters) or left out
        """
        return [dict(entry) for entry in self._report]

    def warnings(self) -> Iterator[str]:
        """Yield one line for each thing that could not be carried over as it was."""
        for entry in self._report:
            if entry["action"] == "left out":
                yield f"{entry['type']} stream {entry['index']} was left out: {entry['reason']}"
        if self._lost_tags:
            yield f"{self._form.muxer} has no place for the tags {', '.join(self._lost_tags)}; they were left out"
        for stream, lost in self._lost_labels.items():
            yield f"{self._form.muxer} has no place for these labels of {stream}: {', '.join(lost)}; they were left out"
        if self._chapters and self._form.muxer in ("mpegts", *ANIMATIONS):
            yield f"{self._form.muxer} cannot hold chapters; {len(self._chapters)} were left out"
        for index, carried in self._carried.items():
            if carried.kind == "video":
                yield f"video stream {index} was copied as it is; --video-stream {index} enlarges that one"
            if isinstance(carried.converter, Reencoder) and carried.converter.mixed:
                yield f"audio stream {index}: {carried.converter.mixed}"
            if isinstance(carried.converter, TextConverter) and carried.converter.damaged:
                yield f"subtitle stream {index}: {carried.converter.damaged} damaged texts were left out"
            if carried.damaged:
                yield f"{carried.kind} stream {index}: {carried.damaged} damaged packets were left out"
            if carried.rising.repaired:
                yield f"sound or other stream {index}: {carried.rising.repaired} timestamps were out of order"
            if foreign := self._packets.foreign[index]:
                yield (
                    f"audio stream {index}: it changes its codec on the way, as where recordings were joined; "
                    f"{foreign} packets were left out; enlarge the recordings one by one to keep their sound"
                )
            if strays := self._packets.strays(index):
                yield (
                    f"sound or other stream {index}: its clock starts again {strays} times where the picture's does "
                    "not; it goes on where it was and may be out of step"
                )

    def close(self) -> None:
        """Close the source."""
        self._container.close()


def _first_packet(path: Path, index: int) -> bytes:
    """Return the bytes of the one packet a cover has."""
    with open_input(path) as container:
        return next((bytes(packet) for packet in packets_of(container, [container.streams[index]])), b"")


def _cover_packet(data: bytes, target: Stream) -> Packet:
    packet: Packet = av.Packet(data)
    packet.stream, packet.time_base = target, target.time_base or Fraction(1, av.time_base)
    packet.pts = packet.dts = 0
    packet.is_keyframe = True
    return packet

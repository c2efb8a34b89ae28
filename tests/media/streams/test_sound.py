"""Sound beside a stream: at its time, at the rate asked for, and never waiting for the picture."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from gtasr_video.errors import InputError
from gtasr_video.media.streams.byteflow import FileFlow
from gtasr_video.media.streams.clock import StreamClock
from gtasr_video.media.streams.connection import Connection
from gtasr_video.media.streams.fed_sound import SoundWish
from gtasr_video.media.streams.outlets import FileOutlet
from gtasr_video.media.streams.pipe_source import FileSource
from gtasr_video.media.streams.reader import StreamReader
from gtasr_video.media.streams.resampling import Resampler, load_resample
from gtasr_video.media.streams.sound_encoder import SoundEncoder
from gtasr_video.media.streams.sound_queue import SoundForm, SoundPacket
from gtasr_video.media.streams.writer import StreamWriter
from tests import clips


@pytest.mark.parametrize(("rate", "target"), [(44_100, 48_000), (8_000, 48_000), (96_000, 44_100), (48_000, 44_100)])
def test_pieces_give_what_the_whole_gives(rate: int, target: int) -> None:
    samples = torch.sin(torch.arange(rate) * 0.05)[None].repeat(2, 1)
    whole = load_resample()(samples, rate, target)
    resampler = Resampler(rate, target)
    generator = np.random.default_rng(1)
    made, at = [], 0
    while at < rate:
        size = int(generator.integers(1, 3000))
        made.append(resampler.push(samples[:, at : at + size]))
        at += size
    made.append(resampler.flush())
    joined = torch.cat(made, 1)
    assert joined.shape == whole.shape
    assert (joined - whole).abs().max() < 1e-4


def encoded(
    path: Path, change: Any = lambda number, time: time, **options: Any
) -> tuple[SoundEncoder, np.ndarray[Any, Any]]:
    """Encode the sound of `path` anew with its times changed; returns the encoder and what is heard, 48 kHz mono."""
    out = io.BytesIO()
    with av.open(str(path)) as source, av.open(out, "w", format="matroska") as target:
        stream = source.streams.audio[0]
        encoder = SoundEncoder(stream, target, **options)
        for number, packet in enumerate(source.demux(stream)):
            if packet.size:
                time = change(number, packet.pts * packet.time_base)
                if time is None:
                    continue
                packet.pts = packet.dts = round(time / packet.time_base)
                for made in encoder.convert(SoundPacket(0, time, packet)):
                    target.mux(made)
        for made in encoder.flush():
            target.mux(made)
    return encoder, heard(out)


def heard(data: io.BytesIO) -> np.ndarray[Any, Any]:
    """Return the first channel of what a player hears from 0 on, at 48 kHz."""
    data.seek(0)
    sound = np.zeros(48_000 * 20, np.float32)
    end = 0
    with av.open(data) as source:
        for frame in source.decode(audio=0):
            assert frame.pts is not None
            begin = round(frame.pts * frame.time_base * 48_000)
            part = frame.to_ndarray()[0]
            if begin < 0:
                part, begin = part[-begin:], 0
            sound[begin : begin + len(part)] = part
            end = begin + len(part)
    return sound[:end]


def clicks(sound: np.ndarray[Any, Any], rate: int = 48_000) -> list[float]:
    """Return the times, in seconds, at which clicks begin."""
    loud = np.flatnonzero(np.abs(sound) > 0.5)
    return [float(loud[i]) / rate for i in range(len(loud)) if i == 0 or loud[i] - loud[i - 1] > rate // 4]


@pytest.fixture(scope="module")
def tone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds with a click at every whole one."""
    return clips.make_clip(
        tmp_path_factory.mktemp("sound") / "tone.mkv", frames=100, sound=[clips.Sound("pcm_s16le", rate=48_000)]
    )


def test_clicks_stay_where_they_are(tone: Path) -> None:
    encoder, sound = encoded(tone)
    assert encoder.moved == 0
    found = clicks(sound)
    assert [round(time) for time in found] == [0, 1, 2, 3]
    assert all(abs(time - round(time)) < 0.04 for time in found)


def test_another_rate_and_layout(tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "in.mkv", frames=100, sound=[clips.Sound("pcm_s16le", rate=8_000, layout="mono")])
    encoder, sound = encoded(path)
    assert (encoder.track.rate, encoder.track.channels) == (48_000, 1)
    assert all(abs(time - round(time)) < 0.04 for time in clicks(sound))
    assert abs(len(sound) / 48_000 - 4) < 0.1


def test_lost_packets_become_silence_and_sound_stays_at_its_time(tone: Path) -> None:
    encoder, sound = encoded(tone, lambda number, time: None if 20 <= number < 60 else time)
    found = clicks(sound)
    assert all(abs(time - round(time)) < 0.04 for time in found)
    assert 3 in [round(time) for time in found]
    assert encoder.moved == 1


def test_a_clock_that_drifts_is_followed(tone: Path) -> None:
    """A sender whose sound card runs 1 % slow: after 4 s its sound would be 40 ms off, and more with every second."""
    encoder, _ = encoded(tone, lambda number, time: time * Fraction(101, 100))
    assert encoder.moved >= 1
    assert encoder.worst_s <= 0.02


def test_sound_that_overlaps_is_cut(tone: Path) -> None:
    encoder, sound = encoded(tone, lambda number, time: time - Fraction(1, 2) if number > 100 else time)
    assert encoder.moved == 1
    assert abs(len(sound) / 48_000 - 3.5) < 0.1


def test_loudness(tone: Path) -> None:
    _, plain = encoded(tone)
    _, quieter = encoded(tone, loudness=-35.0)
    before, after = (float(np.sqrt(np.mean(sound[48_000:] ** 2))) for sound in (plain, quieter))
    assert after < before / 2
    assert abs(len(quieter) - len(plain)) < 48_000 // 20
    assert all(abs(time - round(time)) < 0.04 for time in clicks(quieter / max(abs(quieter))))


def write(source: Path | FileSource, to: Path, wish: SoundWish) -> StreamWriter:
    with StreamReader(source if isinstance(source, FileSource) else FileSource(source)) as reader:
        outlet = FileOutlet(to, overwrite=False)
        with StreamWriter(outlet, reader.spec, sound=reader.sound, wish=wish) as writer:
            for frame in reader:
                writer.write(frame)
    return writer


def test_damaged_sound_costs_itself_alone(tmp_path: Path) -> None:
    """Where packets were lost on their way, AAC has no header to be taken off for Matroska."""
    whole = clips.make_clip(tmp_path / "in.ts", frames=50, sound=[clips.Sound()])
    writer = write(clips.lose(whole, 1, 9, tmp_path / "lossy.ts"), tmp_path / "out.mkv", SoundWish())
    (told,) = (line for line in writer.facts()["warnings"] if "damaged" in line)
    assert told.startswith("sound 0: ")
    assert len(clips.sound_of(tmp_path / "out.mkv")[0]) > 50


def test_silence_where_there_is_no_sound(tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "mute.mp4", frames=50)
    write(source, tmp_path / "out.mp4", SoundWish(silence=True))
    with av.open(str(tmp_path / "out.mp4")) as container:
        sound = [frame.to_ndarray() for frame in container.decode(audio=0)]
    assert 1.8 < sum(part.shape[1] for part in sound) / 48_000 < 2.1
    assert max(float(np.abs(part).max()) for part in sound) < 1e-3


def test_what_is_wished_for_is_done(tmp_path: Path) -> None:
    source = clips.make_clip(
        tmp_path / "in.mkv", frames=25, sound=[clips.Sound(), clips.Sound("libopus", language="fra")]
    )
    actions = {
        SoundWish(): ["copied", "copied"],
        SoundWish(frozenset({"aac"})): ["copied", "converted"],
        SoundWish(frozenset({"aac"}), first=True): ["copied", "left out"],
        SoundWish(anew=True): ["converted", "converted"],
        SoundWish(none=True): ["left out", "left out"],
    }
    for number, (wish, expected) in enumerate(actions.items()):
        writer = write(source, tmp_path / f"{number}.mkv", wish)
        assert [stream["action"] for stream in writer.facts()["streams"]] == expected
        carried = [one for one in expected if one != "left out"]
        assert len(clips.sound_of(tmp_path / f"{number}.mkv")) == len(carried)


class HadAgain(FileSource):
    """A stream that breaks off, and is another file each time it is had again."""

    def __init__(self, first: Path, *later: Path) -> None:
        super().__init__(first)
        self._later = list(later)
        self.clock = StreamClock(anew=True, ahead=None)

    def again(self) -> Connection | None:
        return Connection(FileFlow(self._later.pop(0)), self.name) if self._later else None


def seconds_of_sound(path: Path) -> float:
    with av.open(str(path)) as container:
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))


@pytest.mark.parametrize("sound", [clips.Sound("libmp3lame"), clips.Sound(rate=44_100), clips.Sound(layout="mono")])
def test_sound_that_comes_back_in_another_form_spoils_nothing(sound: clips.Sound, tmp_path: Path) -> None:
    first = clips.make_clip(tmp_path / "first.ts", frames=50, sound=[clips.Sound()])
    second = clips.make_clip(tmp_path / "second.ts", frames=50, sound=[sound])
    same = write(HadAgain(first, first), tmp_path / "same.mkv", SoundWish())
    assert not list(same.warnings()) and seconds_of_sound(tmp_path / "same.mkv") > 3.9
    copied = write(HadAgain(first, second), tmp_path / "copied.mkv", SoundWish())
    assert any("packets left out" in line and "--sound aac takes both" in line for line in copied.warnings())
    assert 1.9 < seconds_of_sound(tmp_path / "copied.mkv") < 2.2
    anew = write(HadAgain(first, second), tmp_path / "anew.mkv", SoundWish(anew=True))
    assert not any("left out" in line for line in anew.warnings())
    assert 3.8 < seconds_of_sound(tmp_path / "anew.mkv") < 4.2


def test_sound_comes_back_in_another_container(tmp_path: Path) -> None:
    """The same AAC, but what says how to decode it lies beside it, no longer in each packet."""
    first, second = (clips.make_clip(tmp_path / name, frames=50, sound=[clips.Sound()]) for name in ("a.ts", "b.mkv"))
    for output in ("out.ts", "out.mkv"):
        for number, parts in enumerate(((first, second), (second, first))):
            writer = write(HadAgain(*parts), tmp_path / f"{number}{output}", SoundWish())
            (told,) = writer.warnings()
            assert "aac in ADTS at 48000 Hz, 2 channels" in told and "packets left out" in told
            assert 1.9 < seconds_of_sound(tmp_path / f"{number}{output}") < 2.2


def without_pictures(source: Path, to: Path) -> Path:
    """Copy `source` to `to` as far as one comes who breaks off before the first picture: its header and some sound."""
    with av.open(str(source)) as container, av.open(str(to), "w") as target:
        copies = {s.index: target.add_stream_from_template(s, opaque=True) for s in container.streams}
        for packet in container.demux(audio=0):
            if packet.size:
                packet.stream = copies[packet.stream_index]
                target.mux(packet)
    return to


def test_what_broke_off_before_its_first_picture_counts_for_nothing(tmp_path: Path) -> None:
    """Sound and size are those of the connection that brought the first picture, which may have begun otherwise."""
    mono = clips.make_clip(tmp_path / "mono.mkv", frames=25, size=(32, 32), sound=[clips.Sound(layout="mono")])
    broken = without_pictures(mono, tmp_path / "broken.mkv")
    whole = clips.make_clip(tmp_path / "whole.ts", frames=25, sound=[clips.Sound(), clips.Sound("libmp3lame")])
    write(whole, tmp_path / "expected.mkv", SoundWish())
    writer = write(HadAgain(broken, broken, whole), tmp_path / "out.mkv", SoundWish())
    assert not list(writer.warnings()) and writer.spec.width == 64
    for name in ("expected.mkv", "out.mkv"):
        with av.open(str(tmp_path / name)) as container:
            assert next(container.decode(video=0)).time < 0.2
    sent, came = (
        [[data for _, _, data in packets] for packets in clips.sound_of(tmp_path / name).values()]
        for name in ("expected.mkv", "out.mkv")
    )
    assert came == sent and all(sent)
    with pytest.raises(InputError, match="it ended before its first picture"):
        StreamReader(HadAgain(broken, broken))


def test_more_sound_than_the_stream_began_with_spoils_no_picture(tmp_path: Path) -> None:
    mute, sounding = (clips.make_clip(tmp_path / f"{len(s)}.ts", frames=25, sound=s) for s in ((), [clips.Sound()] * 2))
    with StreamReader(HadAgain(mute, sounding, sounding)) as reader:
        assert len(list(reader)) == 75
    assert reader.facts()["corrupt_packets"] == 0
    (told,) = reader.warnings()
    assert "it came back with 2 sound tracks instead of 0; the output has no place" in told


def test_fields_that_break_off_with_their_first_picture_leave_its_sound_valid(tmp_path: Path) -> None:
    """bwdif looks ahead into the next connection before the output has been opened."""
    first, second = (clips.make_clip(tmp_path / f"{n}.ts", frames=n, sound=[clips.Sound()]) for n in (1, 25))
    with StreamReader(HadAgain(first, second), deinterlace="always") as reader:
        assert reader.corrupt_packets == 0
        assert [str(SoundForm.of(track)) for track in reader.sound.tracks] == ["aac in ADTS at 48000 Hz, 2 channels"]
        outlet = FileOutlet(tmp_path / "out.ts", overwrite=False)
        with StreamWriter(outlet, reader.spec, sound=reader.sound) as writer:
            for frame in reader:
                writer.write(frame)
    assert [stream["index"] for stream in writer.facts()["streams"]] == [1]


def test_sound_that_overlaps_is_written_one_after_the_other(tmp_path: Path) -> None:
    """MP4 counts in samples, the stream in 1/90000 s."""
    parts = [
        clips.make_clip(
            tmp_path / f"{n}.ts", pts=[t + 12800 * n for t in clips.times(25)], sound=[clips.Sound("mp3", start=start)]
        )
        for n, start in enumerate((Fraction(0), Fraction(95, 100)))
    ]
    source = clips.join(parts, tmp_path / "both.ts")
    write(source, tmp_path / "out.mp4", SoundWish())
    assert len(clips.sound_of(tmp_path / "out.mp4")[0]) == len(clips.sound_of(source)[0])


def test_sound_goes_on_while_the_picture_stands_still(tone: Path, tmp_path: Path) -> None:
    """Live: after the first picture nothing more is written for a while, and the sound leaves all the same."""
    with StreamReader(FileSource(tone)) as reader:
        outlet = FileOutlet(tmp_path / "out.mkv", overwrite=False)
        with StreamWriter(outlet, reader.spec, sound=reader.sound, live=True) as writer:
            frames = iter(reader)
            writer.write(next(frames))
            later = list(frames)
            while reader.sound.wait(0):
                writer._ended.wait(0.01)
            assert writer.facts()["frames"] == 1
            for frame in later:
                writer.write(frame)
    assert len(clips.sound_of(tmp_path / "out.mkv")[0]) > 100

"""Sound and everything else that is not the picture comes along, packet for packet."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

import gtasr_video
from gtasr_video.audit import AuditError
from gtasr_video.errors import UsageError, describe
from gtasr_video.media import Encoding, Reader, Writer
from gtasr_video.media.remux import SideStreams
from gtasr_video.media.side_packets import SidePackets
from tests.clips import (
    Picture,
    Sound,
    add_words,
    bring_forward,
    join,
    lose,
    make_clip,
    phone_times,
    picture_of,
    silence,
    sound_of,
    times,
    truncate,
)

TB = Fraction(1, 12800)


def copy(
    source: Path, target: Path, encoding: Encoding | None = None, *, drop_unsupported: bool = False, **window: Any
) -> dict[str, Any]:
    with (
        Reader(source, **window) as reader,
        Writer(target, reader.spec, encoding, source=reader, drop_unsupported=drop_unsupported) as writer,
    ):
        assert writer.spec.layout == reader.spec.layout
        for frame in reader:
            writer.write(frame)
    return writer.facts()


TRACKS = [
    Sound("aac", "deu", 48000, title="Deutsch"),
    Sound("mp3", "fra", 44100, "mono", tone=700, default=False),
    Sound("ac3", "eng", 48000, "5.1", tone=300, default=False),
]


@pytest.mark.parametrize(
    ("inner", "outer"),
    [(".mp4", ".mp4"), (".mp4", ".mov"), (".mp4", ".mkv"), (".mkv", ".mp4"), (".mkv", ".mkv"), (".ts", ".mkv")],
)
def test_every_track_is_copied_packet_for_packet(tmp_path: Path, inner: str, outer: str) -> None:
    source = make_clip(tmp_path / f"in{inner}", frames=40, sound=TRACKS)
    facts = copy(source, tmp_path / f"out{outer}")
    before, after = sound_of(source), sound_of(tmp_path / f"out{outer}")
    assert len(before) == len(after) == 3
    tick = Fraction(1, 1000) if ".mkv" in (outer,) else Fraction(1, 40000) if inner != outer else Fraction(0)
    for track in range(3):
        assert len(before[track]) == len(after[track])
        for one, other in zip(before[track], after[track], strict=True):
            assert abs(one[0] - other[0]) <= tick
            if inner != ".ts":  # there AAC packets carry headers that other files keep elsewhere
                assert one[2] == other[2]
    assert [s["action"] for s in facts["streams"]] == ["copied"] * 3
    assert not facts["warnings"]


def test_mp4_to_mp4_keeps_times_to_the_tick(tmp_path: Path) -> None:
    source = make_clip(
        tmp_path / "in.mp4", pts=phone_times(60, Fraction(1, 90000)), time_base=Fraction(1, 90000), sound=TRACKS[:2]
    )
    copy(source, tmp_path / "out.mp4")
    assert sound_of(source) == sound_of(tmp_path / "out.mp4")


def test_sound_that_begins_before_or_after_the_picture_stays_there(tmp_path: Path) -> None:
    late = [t + 12800 for t in times(20)]
    source = make_clip(tmp_path / "in.mp4", pts=late, sound=[Sound(), Sound("mp3", start=Fraction(3, 2))])
    for suffix in (".mp4", ".mkv"):
        copy(source, tmp_path / f"out{suffix}")
        before, after = sound_of(source), sound_of(tmp_path / f"out{suffix}")
        for track in (0, 1):
            assert abs(before[track][0][0] - after[track][0][0]) <= Fraction(1, 1000)
            assert [p[2] for p in before[track]] == [p[2] for p in after[track]]


def test_tags_languages_and_defaults_are_kept(tmp_path: Path) -> None:
    said = {"title": "Höhe", "artist": "somebody", "creation_time": "2020-01-02T03:04:05.000000Z"}
    source = make_clip(tmp_path / "in.mkv", frames=10, sound=TRACKS, metadata=said)
    for suffix in (".mkv", ".mp4"):
        copy(source, tmp_path / f"out{suffix}")
        with av.open(str(tmp_path / f"out{suffix}")) as container:
            found = {k.lower(): v for k, v in container.metadata.items()}
            assert (found["title"], found["artist"]) == ("Höhe", "somebody")
            assert found["creation_time"].startswith("2020-01-02T03:04:05")
            tracks = container.streams.audio
            assert [t.language for t in tracks] == ["deu", "fra", "eng"]
            assert [bool(t.disposition & av.stream.Disposition.default) for t in tracks] == [True, False, False]
            if suffix == ".mkv":
                assert tracks[0].metadata["title"] == "Deutsch"


def test_titles_of_tracks_pass_through_mp4(tmp_path: Path) -> None:
    source = copied(make_clip(tmp_path / "in.mkv", frames=5, sound=TRACKS[:1]), tmp_path / "in.mp4")
    for suffix in (".mp4", ".mov", ".mkv"):
        copy(source, tmp_path / f"out{suffix}")
        with av.open(str(tmp_path / f"out{suffix}")) as container:
            tags = container.streams.audio[0].metadata
            assert tags["title" if suffix == ".mkv" else "name"] == "Deutsch"


@pytest.mark.parametrize(
    ("suffix", "form"), [(".mkv", "matroska"), (".mp4", "mp4"), (".mov", "mov"), (".ts", "mpegts")]
)
def test_titles_and_flags_are_kept_or_told(tmp_path: Path, suffix: str, form: str) -> None:
    """What a file says of its tracks is read in the output again, or named in a warning: one or the other."""
    source = make_clip(tmp_path / "in.mkv", frames=3, sound=[Sound("aac", "deu", title="Ton")])
    for flag in ("original", "comment", "hearing_impaired", "visual_impaired", "forced", "dub"):
        flagged = tmp_path / f"{flag}.mkv"
        with av.open(str(source)) as before, av.open(str(flagged), "w") as output:
            streams = [output.add_stream_from_template(stream) for stream in before.streams]
            streams[1].metadata["title"] = "Ton"
            streams[1].disposition = Disposition[flag] | Disposition.default
            for packet in before.demux():
                if packet.size:
                    packet.stream = streams[packet.stream.index]
                    output.mux(packet)
        target = tmp_path / f"{flag}_out{suffix}"
        facts = copy(flagged, target)
        with av.open(str(target)) as after:
            track = after.streams.audio[0]
            lost = [] if {"Ton"} & set(track.metadata.values()) else ["title"]
            lost += [] if track.disposition & Disposition[flag] else [flag]
        told = f"{form} has no place for these labels of audio stream 1: {', '.join(lost)}; they were left out"
        assert facts["warnings"] == ([told] if lost else [])
        assert suffix != ".mkv" or not lost
        assert suffix != ".ts" or lost[0] == "title"


def copied(source: Path, target: Path) -> Path:
    copy(source, target)
    return target


def test_the_picture_keeps_its_place_among_the_streams(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=5, sound=TRACKS[:2], sound_first=True)
    copy(source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert [s.type for s in container.streams] == ["audio", "audio", "video"]


def test_chapters_are_kept_and_cut(tmp_path: Path) -> None:
    unit = Fraction(1, 1000)
    chapters = [
        {"id": 1, "start": 0, "end": 1000, "time_base": unit, "metadata": {"title": "one"}},
        {"id": 2, "start": 1000, "end": 2000, "time_base": unit, "metadata": {"title": "two"}},
        {"id": 3, "start": 2000, "end": 3000, "time_base": unit, "metadata": {"title": "three"}},
    ]
    source = make_clip(tmp_path / "in.mkv", frames=75, chapters=chapters)
    for suffix in (".mkv", ".mp4"):
        copy(source, tmp_path / f"out{suffix}")
        with av.open(str(tmp_path / f"out{suffix}")) as container:
            found = [(c["start"] * c["time_base"], c["metadata"]["title"]) for c in container.chapters()]
        assert found == [(0, "one"), (1, "two"), (2, "three")]
    copy(source, tmp_path / "cut.mkv", start=Fraction(38, 25), duration=Fraction(1))
    with av.open(str(tmp_path / "cut.mkv")) as container:
        found = [(c["start"] * c["time_base"], c["end"] * c["time_base"]) for c in container.chapters()]  # type: ignore[misc, operator]
    assert found == [(0, Fraction(12, 25)), (Fraction(12, 25), 1)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_cut_takes_the_sound_in_step(tmp_path: Path, suffix: str) -> None:
    """Every kept packet has the time it had, less the time of the first frame."""
    source = make_clip(tmp_path / f"in{suffix}", frames=100, sound=TRACKS[:2], gop=30)
    target = tmp_path / f"out{suffix}"
    copy(source, target, start=Fraction(13, 10), duration=Fraction(3, 2))
    begin = Fraction(33, 25)
    before, after = sound_of(source), sound_of(target)
    for track in (0, 1):
        by_bytes = {data: pts for pts, _, data in before[track]}
        assert len(by_bytes) == len(before[track])
        for pts, _, data in after[track]:
            assert abs(by_bytes[data] - begin - pts) <= Fraction(1, 900)
        assert 0 <= after[track][0][0] < Fraction(3, 100)
        assert Fraction(142, 100) < after[track][-1][0] < Fraction(3, 2)


def test_a_cut_by_frames_ends_the_sound_with_the_picture(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=60, sound=[Sound()])
    copy(source, tmp_path / "out.mp4", frames=25)
    (track,) = sound_of(tmp_path / "out.mp4").values()
    assert Fraction(97, 100) < track[-1][0] < 1
    assert track[0][0] < 0  # the encoder's run-up before 0 belongs to the sound


def test_a_late_cut_searches_the_sound(tmp_path: Path) -> None:
    pts = [i * 12800 for i in range(30)]
    source = make_clip(tmp_path / "in.mp4", pts=pts, gop=5, sound=[Sound()], fps=1)
    copy(source, tmp_path / "out.mp4", start=Fraction(20), duration=Fraction(4))
    (track,) = sound_of(tmp_path / "out.mp4").values()
    assert 0 <= track[0][0] < Fraction(3, 100)
    assert Fraction(39, 10) < track[-1][0] < 4


def in_file(path: Path) -> list[tuple[str, Fraction]]:
    """Return (kind, decoding time in seconds) of all packets of a file, in its order."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux() if packet.size and packet.dts is not None]
        return [(packet.stream.type, packet.dts * packet.time_base) for packet in packets]  # type: ignore[operator]


@pytest.fixture(scope="module")
def astray(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven seconds of which the second sound lies in the file two seconds before the first."""
    folder = tmp_path_factory.mktemp("astray")
    tracks = [Sound("mp3"), Sound("mp3", tone=700)]
    return bring_forward(make_clip(folder / "in.ts", frames=175, sound=tracks), 2, 2, folder / "astray.ts")


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_a_cut_keeps_the_sound_that_lies_behind_other_sound(astray: Path, tmp_path: Path, suffix: str) -> None:
    copy(astray, tmp_path / f"out{suffix}", start=Fraction(1), duration=Fraction(3))
    tracks = sound_of(tmp_path / f"out{suffix}")
    begin = min(track[0][0] for track in tracks.values()) if suffix == ".ts" else 0  # which cannot begin at 0
    for track in tracks.values():
        assert track[0][0] - begin < Fraction(1, 20) and Fraction(59, 20) < track[-1][0] - begin < Fraction(61, 20)


def test_sound_that_a_cut_lost_fails_the_audit(astray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_first_behind(side: SideStreams, _: Fraction) -> bool:
        return not any(side._waiting.values())

    monkeypatch.setattr(SideStreams, "_is_behind", is_first_behind)
    monkeypatch.setattr(SideStreams, "_is_open", is_first_behind)
    with pytest.raises(AuditError, match=r"sound stream 1 ends at [12]\.\d+ s instead of 3\.000 s"):
        gtasr_video.upscale(astray, tmp_path / "out.mkv", model="bicubic", scale=1, start="1", duration="3")


@pytest.mark.parametrize("lead", [2, 10])
def test_subtitles_that_lie_far_ahead_hold_no_sound_back(tmp_path: Path, lead: int) -> None:
    bare = make_clip(tmp_path / "bare.mkv", frames=150, bframes=0, sound=[Sound()])
    cues = [(n + 0.2, 0.6, f"line {n}") for n in range(6)]
    source = add_words(bare, tmp_path / "in.mkv", cues, lead=lead)
    assert [kind for kind, _ in in_file(source)[:6]].count("subtitle") >= 2
    copy(source, tmp_path / "cut.mkv", duration=Fraction(3))
    (track,) = sound_of(tmp_path / "cut.mkv").values()
    assert Fraction(59, 20) < track[-1][0] < 3
    assert sum(kind == "subtitle" for kind, _ in in_file(tmp_path / "cut.mkv")) == 3
    copy(source, tmp_path / "whole.mkv")
    latest = {"video": Fraction(0), "audio": Fraction(0)}
    for kind, time in in_file(tmp_path / "whole.mkv"):
        latest |= {kind: time} if kind in latest else {}
        assert abs(latest["video"] - latest["audio"]) < Fraction(1, 2)
    assert len(sound_of(tmp_path / "whole.mkv")[0]) == len(sound_of(source)[0])


def test_a_cut_does_not_read_on_for_what_never_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a film with few subtitles, or a sound that is only announced, as little is read as a few seconds more."""
    pts = [n * 12800 for n in range(60)]
    bare = make_clip(tmp_path / "bare.mkv", pts=pts, bframes=0, sound=[Sound("mp3")])
    source = add_words(bare, tmp_path / "in.mkv", [(1, 1, "first"), (58, 1, "last")])
    places: list[Fraction] = []
    read = SidePackets.read

    def seen(packets: SidePackets) -> Any:
        places.extend([] if packets.place is None else [packets.place])
        return read(packets)

    monkeypatch.setattr(SidePackets, "read", seen)
    copy(source, tmp_path / "out.mkv", duration=Fraction(4))
    assert 4 < max(places) < 16


# --- sound that has to be encoded again -----------------------------------------------------------------------------


def decoded(path: Path, track: int = 0) -> tuple[np.ndarray[Any, Any], int]:
    """Return the samples (n,) of a track's first channel laid out by their times from 0 on, and the rate."""
    parts = []
    with av.open(str(path)) as container:
        stream = container.streams.audio[track]
        for frame in container.decode(stream):
            resampled = frame.to_ndarray().astype(np.float32)
            samples = resampled[0] if frame.format.is_planar else resampled.reshape(-1, frame.layout.nb_channels)[:, 0]
            assert frame.pts is not None
            assert frame.time_base is not None
            parts.append((round(frame.pts * frame.time_base * frame.sample_rate), samples))
        rate = stream.codec_context.sample_rate
    total = max(begin + len(s) for begin, s in parts)
    out = np.zeros(total, np.float32)
    for begin, samples in parts:
        kept = samples[max(0, -begin) :]
        out[max(0, begin) : max(0, begin) + len(kept)] = kept
    return out / np.abs(out).max(), rate


def clicks(path: Path, track: int = 0) -> list[float]:
    """Return the moments in seconds at which the sound clicks."""
    samples, rate = decoded(path, track)
    loud = np.flatnonzero(np.abs(samples) > 0.6)
    starts = loud[np.insert(np.diff(loud) > rate // 10, 0, True)]
    return [float(s) / rate for s in starts]


@pytest.mark.parametrize(
    ("suffix", "sound", "codec"),
    [
        (".webm", Sound("aac"), "opus"),
        (".webm", Sound("ac3", layout="5.1"), "opus"),
        (".webm", Sound("mp3", rate=44100, layout="mono"), "opus"),
        (".mp4", Sound("pcm_mulaw"), "aac"),
        (".ts", Sound("flac"), "aac"),
    ],
)
def test_sound_a_container_cannot_hold_is_encoded_again_in_step(
    tmp_path: Path, suffix: str, sound: Sound, codec: str
) -> None:
    source = make_clip(tmp_path / f"in{'.mov' if sound.codec == 'pcm_mulaw' else '.mkv'}", frames=75, sound=[sound])
    encoding = Encoding(preset="8") if suffix == ".webm" else None
    facts = copy(source, tmp_path / f"out{suffix}", encoding)
    (entry,) = facts["streams"]
    assert entry["action"] == "converted"
    assert "cannot hold" in entry["reason"]
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        (stream,) = container.streams.audio
        assert stream.codec_context.codec.canonical_name == codec
        assert stream.codec_context.layout.name == sound.layout
    before, after = clicks(source), clicks(tmp_path / f"out{suffix}")
    assert [round(t) for t in before] == [round(t) for t in after]
    assert len(after) >= 2
    assert max(abs(a - b) for a, b in zip(before, after, strict=True)) < 0.004


@pytest.mark.parametrize(("layout", "named"), [("stereo", "stereo"), ("5.1", "5.1"), ("hexadecagonal", "9.1.6")])
def test_mp4_names_the_layout_of_raw_sound_that_matroska_does_not(tmp_path: Path, layout: str, named: str) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=10, sound=[Sound("pcm_s24le", layout=layout)])
    assert copy(source, tmp_path / "out.mp4")["streams"][0]["action"] == "copied"
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec_context.layout.name == named
    assert [packet[2] for packet in sound_of(tmp_path / "out.mp4")[0]]


def test_channels_that_an_encoder_has_no_place_for_are_told(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=10, sound=[Sound("pcm_s16le", layout="hexadecagonal")])
    facts = copy(source, tmp_path / "out.ts")
    assert facts["warnings"] == ["audio stream 1: 16 channels were mixed into 2"]


def test_channels_of_which_nothing_is_known_are_not_mixed(tmp_path: Path) -> None:
    nine = "FL+FR+FC+LFE+BL+BR+FLC+FRC+BC"
    source = make_clip(tmp_path / "in.mkv", frames=10, sound=[Sound("pcm_s16le", layout=nine)])
    for suffix in (".mp4", ".ts", ".webm"):
        with pytest.raises(UsageError, match=r"cannot hold audio stream 1 \(pcm_s16le\); write .*\.mkv"):
            copy(source, tmp_path / f"out{suffix}")
    facts = copy(source, tmp_path / "out.mp4", drop_unsupported=True)
    assert "its 9 channels have no layout" in facts["warnings"][0]


def test_only_the_track_that_must_be_is_encoded_again(tmp_path: Path) -> None:
    tracks = [Sound("libopus"), Sound("aac"), Sound("libopus", tone=100)]
    source = make_clip(tmp_path / "in.mkv", frames=30, sound=tracks)
    facts = copy(source, tmp_path / "out.webm", Encoding(preset="8"))
    assert [s["action"] for s in facts["streams"]] == ["copied", "converted", "copied"]
    before, after = sound_of(source), sound_of(tmp_path / "out.webm")
    for track in (0, 2):
        assert [p[2] for p in before[track]] == [p[2] for p in after[track]]


# --- other streams --------------------------------------------------------------------------------------------------


def with_extras(path: Path) -> Path:
    """A Matroska file with a picture, sound, two kinds of subtitles, a font and a cover."""
    plain = make_clip(path.with_name("plain.mkv"), frames=50, bframes=0, sound=[Sound()])
    text = path.with_name("text.srt")
    text.write_text("1\n00:00:00,500 --> 00:00:01,000\nHello\n\n2\n00:00:01,200 --> 00:00:01,800\nWorld\n")
    with av.open(str(plain)) as source, av.open(str(text)) as words, av.open(str(path), "w") as output:
        picture, sound = source.streams.video[0], source.streams.audio[0]
        copies: dict[Any, Any] = {
            picture: output.add_stream_from_template(picture, opaque=True),
            sound: output.add_stream_from_template(sound),
            words.streams[0]: output.add_stream_from_template(words.streams[0]),
        }
        copies[words.streams[0]].metadata["language"] = "nld"
        output.add_attachment("font.ttf", "font/ttf", b"not really a font" * 50)
        packets = [p for c in (source, words) for p in c.demux() if p.size]
        for packet in sorted(packets, key=lambda p: (p.dts if p.dts is not None else p.pts or 0) * p.time_base):
            packet.stream = copies[packet.stream]
            output.mux(packet)
    return path


def test_matroska_keeps_subtitles_and_attachments(tmp_path: Path) -> None:
    source = with_extras(tmp_path / "in.mkv")
    facts = copy(source, tmp_path / "out.mkv")
    assert [s["action"] for s in facts["streams"]] == ["copied"] * 3
    with av.open(str(source)) as before, av.open(str(tmp_path / "out.mkv")) as after:
        assert [s.type for s in before.streams] == [s.type for s in after.streams]
        texts = [
            [(p.pts, p.duration, bytes(p)) for p in c.demux(c.streams.subtitles[0]) if p.size] for c in (before, after)
        ]
        assert texts[0] == texts[1]
        assert len(texts[0]) == 2
        assert after.streams.subtitles[0].language == "nld"
        assert after.streams.attachments[0].data == b"not really a font" * 50
        assert after.streams.attachments[0].name == "font.ttf"


def test_what_cannot_be_carried_is_refused_or_told(tmp_path: Path) -> None:
    source, target = with_extras(tmp_path / "in.mkv"), tmp_path / "out.mp4"
    with pytest.raises(UsageError) as caught:
        copy(source, target)
    words = f"{source}: mp4 cannot hold attachment stream 3 (font.ttf); write .mkv, or use --drop-unsupported"
    assert words in describe(caught.value)
    assert not target.exists()
    facts = copy(source, target, drop_unsupported=True)
    assert [s["action"] for s in facts["streams"]] == ["copied", "converted", "left out"]
    assert [s["type"] for s in facts["streams"]] == ["audio", "subtitle", "attachment"]
    assert facts["warnings"] == ["attachment stream 3 was left out: mp4 cannot hold attachments"]


def test_a_cover_is_carried_where_it_can_be(tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    with av.open(str(source), "w") as output:
        film: Any = output.add_stream("libx264", rate=25)
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        cover: Any = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        still = picture_of(9, 32, 32, "yuvj420p")
        still.pts = 0
        output.mux(cover.encode(still))
        for number in range(5):
            frame = picture_of(number, 64, 48, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(film.encode(frame))
        output.mux(film.encode(None))
    facts = copy(source, tmp_path / "out.mp4")
    assert [s["action"] for s in facts["streams"]] == ["copied"]
    with av.open(str(source)) as before, av.open(str(tmp_path / "out.mp4")) as after:
        assert after.streams.video[1].disposition & av.stream.Disposition.attached_pic
        data = [[bytes(p) for p in c.demux(c.streams.video[1]) if p.size] for c in (before, after)]
    assert data[0] == data[1]
    with pytest.raises(UsageError, match=r"webm cannot hold cover stream 1 \(mjpeg\); write .mp4, .m4v, .mkv"):
        copy(source, tmp_path / "out.webm", Encoding(preset="8"))


# --- damage ---------------------------------------------------------------------------------------------------------


def test_sound_of_a_file_cut_off_goes_as_far_as_it_is(tmp_path: Path) -> None:
    whole = make_clip(tmp_path / "in.mkv", frames=80, sound=[Sound()])
    source = truncate(whole, 0.6, tmp_path / "cut.mkv")
    copy(source, tmp_path / "out.mp4")
    before, after = sound_of(source), sound_of(tmp_path / "out.mp4")
    assert [p[2] for p in before[0]] == [p[2] for p in after[0]]


def test_sound_times_that_go_back_are_repaired_and_told(tmp_path: Path) -> None:
    late = [t + 12800 * 10 for t in times(25)]
    first = make_clip(tmp_path / "1.ts", pts=late, sound=[Sound("mp3", start=Fraction(10))], sound_seconds=1)
    second = make_clip(tmp_path / "2.ts", frames=25, sound=[Sound("mp3")], sound_seconds=1)
    source = join([first, second], tmp_path / "both.ts")
    facts = copy(source, tmp_path / "out.mkv")
    found = sound_of(tmp_path / "out.mkv")[0]
    assert len(found) == len(sound_of(source)[0])
    assert all(a[1] <= b[1] for a, b in pairwise(found))
    assert any("out of order" in line for line in facts["warnings"])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_damaged_sound_costs_itself_alone(tmp_path: Path, suffix: str) -> None:
    """A broadcast whose signal was bad for a moment: packets of AAC have no header then."""
    whole = make_clip(tmp_path / "in.ts", frames=50, sound=[Sound()])
    source = lose(whole, 1, 9, tmp_path / "lossy.ts")
    report = gtasr_video.upscale(source, tmp_path / f"out{suffix}", model="bicubic", scale=2)
    assert report.audit["passed"]
    (told,) = report.output["warnings"]
    assert "damaged packets were left out" in told
    assert len(sound_of(tmp_path / f"out{suffix}")[0]) == report.audit["sound_packets"] > 50


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts"])
def test_sound_that_overlaps_is_written_one_after_the_other(tmp_path: Path, suffix: str) -> None:
    """In every time base: 1/90000 s later is no later in a track of 1/48000 s."""
    parts = [
        make_clip(tmp_path / f"{n}.ts", pts=[t + 12800 * n for t in times(25)], sound=[Sound("mp3", start=start)])
        for n, start in enumerate((Fraction(0), Fraction(95, 100)))
    ]
    source = join(parts, tmp_path / "both.ts")
    copy(source, tmp_path / f"out{suffix}")
    before, after = sound_of(source)[0], sound_of(tmp_path / f"out{suffix}")[0]
    assert [data for *_, data in before] == [data for *_, data in after]
    assert all(a < b for (_, a, _), (_, b, _) in pairwise(after))
    moved = [abs(b - a) for (a, *_), (b, *_) in zip(before, after, strict=True)]
    assert max(moved) < Fraction(3, 20) and sum(away > Fraction(1, 900) for away in moved) <= 8


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_track_that_is_listed_but_does_not_come_at_first(tmp_path: Path, suffix: str) -> None:
    """Nothing tells what it is like; what comes of it later is kept all the same."""
    whole = make_clip(tmp_path / "in.ts", frames=400, sound=[Sound(), Sound("mp3", "fra", 44100)])
    for name, until in (("never", 1.0), ("late", 0.7)):
        source = silence(whole, 2, tmp_path / f"{name}.ts", until)
        with av.open(str(source)) as container:
            assert container.streams.audio[1].codec_context.sample_rate == 0
        facts = copy(source, tmp_path / f"{name}{suffix}", Encoding(preset="ultrafast"))
        never_in_mp4 = name == "never" and suffix == ".mp4"
        reason = "nothing of it is in what was read" if never_in_mp4 else "mp3 of which nothing comes at first"
        assert facts["streams"][1]["reason"].startswith(reason)
        assert facts["streams"][1]["action"] == ("left out" if never_in_mp4 else "converted")
        after = sound_of(tmp_path / f"{name}{suffix}")
        assert len(after[0]) == len(sound_of(source)[0])
        if name == "late":
            assert abs(after[1][0][0] - sound_of(source)[1][0][0]) < Fraction(1, 20)


def test_bytes_that_are_no_text_survive_in_tags(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=3, metadata={"title": "x" * 9})
    source.write_bytes(source.read_bytes().replace(b"x" * 9, b"caf\xe9 \xff\xfe!!"))
    copy(source, tmp_path / "out.mkv", None)
    with av.open(str(tmp_path / "out.mkv"), metadata_errors="surrogateescape") as container:
        title = container.metadata["title"]
    assert title.encode("utf-8", "surrogateescape") == b"caf\xe9 \xff\xfe!!"


def test_rotation_of_the_source_survives_with_its_sound(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=5, sound=[Sound()], picture=Picture(rotation=270))
    copy(source, tmp_path / "out.mov")
    with Reader(tmp_path / "out.mov") as reader:
        assert reader.spec.rotation == 270

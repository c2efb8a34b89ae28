"""Whatever is wrong, the user gets one line, the right exit code, and no half file."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from gtasr_video.errors import GTASRVideoError, describe
from gtasr_video.media import Encoding
from tests import fakes
from tests.clips import make_clip
from tests.conftest import Outcome

Cli = Callable[..., Outcome]
MODEL = ("--model", "bicubic", "--scale", "2", "--progress", "none")


def refused(outcome: Outcome, code: int, *words: str) -> None:
    """Check one line of error with `words` in it, and the exit code."""
    assert outcome.code == code, outcome
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith("gtasr-video: error: ")
    for word in words:
        assert word in line, line


def nothing_left(folder: Path, *besides: Path) -> None:
    assert sorted(folder.rglob("*")) == sorted(besides)


def upscale(cli: Cli, source: Path | str, output: Path, *more: str) -> Outcome:
    return cli("upscale", source, output, *MODEL, *more)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "out.mp4"


# What the input is


def test_missing_file(cli: Cli, out: Path, tmp_path: Path) -> None:
    refused(upscale(cli, tmp_path / "none.mp4", out), 1, "no such file", "none.mp4")
    nothing_left(out.parent)


def test_folder_as_input(cli: Cli, out: Path, tmp_path: Path) -> None:
    """Is done as a folder, into a folder; a file cannot take it."""
    refused(upscale(cli, tmp_path, out), 2, f"{out} is no folder", "INPUT is a folder")
    nothing_left(out.parent)


def test_not_a_video(cli: Cli, out: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("Dear diary, today I filmed nothing.\n" * 100)
    refused(upscale(cli, text, out), 1, str(text), "not a media file")
    nothing_left(out.parent)


def test_empty_file(cli: Cli, out: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    refused(upscale(cli, empty, out), 1, str(empty), "empty")


def test_a_name_of_a_pipe_as_output(cli: Cli, out: Path, small_clip: Path) -> None:
    """As /dev/stdout is one: a link to a pipe, whose own name nobody knows."""
    os.mkfifo(out.with_name("pipe"))
    out.symlink_to(out.with_name("pipe"))
    refused(upscale(cli, small_clip, out, "-y"), 1, f"{out} is no file but a pipe or a device", "write to -")
    nothing_left(out.parent, out, out.with_name("pipe"))


def test_a_playlist_leads_nowhere(cli: Cli, out: Path, tmp_path: Path) -> None:
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
    refused(upscale(cli, playlist, out), 1, str(playlist), "playlist")


def test_sound_only(cli: Cli, out: Path, tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    with wave.open(str(song), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    refused(upscale(cli, song, out), 1, str(song), "sound but no picture")


def test_no_video_stream(cli: Cli, out: Path, tmp_path: Path) -> None:
    subtitles = tmp_path / "subtitles.mkv"
    with av.open(str(subtitles), "w") as container:
        stream = container.add_mux_stream("subrip")
        packet = av.Packet(b"hello")
        packet.stream, packet.pts, packet.dts, packet.duration = stream, 0, 0, 1000
        packet.time_base = Fraction(1, 1000)
        container.mux(packet)
    refused(upscale(cli, subtitles, out), 1, str(subtitles), "no video stream")


def test_no_frames(cli: Cli, out: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.mov"
    with av.open(str(empty), "w") as container:
        stream = container.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    refused(upscale(cli, empty, out), 1, str(empty))
    nothing_left(out.parent)


def test_one_frame(cli: Cli, out: Path, tmp_path: Path) -> None:
    done = upscale(cli, fakes.clip(tmp_path / "one.mp4", 1), out)
    assert (done.code, done.err) == (0, "")
    assert frames_of(out) == 1


def test_truncated(cli: Cli, out: Path, tmp_path: Path) -> None:
    whole = fakes.clip(tmp_path / "whole.mkv", 50)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    done = upscale(cli, cut, out)
    assert done.code == 0
    assert "gtasr-video: warning: " in done.err
    assert "cut off or damaged" in done.err
    assert 10 < frames_of(out) < 50


@pytest.mark.parametrize("length", [8, 100, 300, 600, 900])
def test_truncated_before_its_first_picture(length: int, cli: Cli, small_clip: Path, out: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(small_clip.read_bytes()[:length])
    refused(upscale(cli, cut, out), 1, str(cut))
    nothing_left(out.parent)


def test_an_mp4_without_its_index_says_what_to_do(cli: Cli, out: Path, tmp_path: Path) -> None:
    whole = make_clip(tmp_path / "whole.mp4", frames=20).read_bytes()
    assert whole.index(b"mdat") < whole.index(b"moov")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: whole.index(b"moov") - 10])
    refused(upscale(cli, cut, out), 1, str(cut), "without its index (moov)", "cut short", "rebuild the index")
    nothing_left(out.parent)


def test_corrupt_packets_are_counted_and_decoding_goes_on(cli: Cli, out: Path, tmp_path: Path) -> None:
    data = bytearray(fakes.noise(tmp_path / "good.mkv", 40).read_bytes())
    for position in range(len(data) // 3, len(data) * 2 // 3, 997):
        data[position] ^= 0xFF
    bad = tmp_path / "bad.mkv"
    bad.write_bytes(data)
    report = tmp_path / "report.json"
    done = upscale(cli, bad, out, "--report", str(report))
    assert done.code == 0, done.err
    assert "damaged packets" in done.err
    facts = json.loads(report.read_text())
    assert facts["corrupt_packets"] > 0
    assert facts["frames_out"] == frames_of(out) > 30


@pytest.mark.parametrize("size", [(33, 17), (16, 31), (15, 16)], ids=str)
def test_odd_sizes(size: tuple[int, int], cli: Cli, out: Path, tmp_path: Path) -> None:
    odd = fakes.clip(tmp_path / "odd.mkv", 3, fakes.spec(*size), Encoding(codec="ffv1"))
    out = out.with_suffix(".mkv")
    done = cli("upscale", odd, out, "--model", "bicubic", "--scale", "3", "--codec", "ffv1", "--progress", "none")
    assert (done.code, done.err) == (0, "")
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (3 * size[0], 3 * size[1])


def test_odd_sizes_that_the_codec_cannot_hold_grow_by_a_line_and_that_is_said(
    cli: Cli, out: Path, tmp_path: Path
) -> None:
    odd = fakes.clip(tmp_path / "odd.mkv", 3, fakes.spec(33, 17), Encoding(codec="ffv1"))
    done = cli("upscale", odd, out, "--model", "bicubic", "--scale", "3", "--progress", "none")
    assert done.code == 0, done.err
    assert "needs even sizes: 99x51 became 100x52" in done.err


def test_size_that_changes_in_mid_stream(cli: Cli, out: Path, tmp_path: Path) -> None:
    one = fakes.clip(tmp_path / "one.ts", 5, fakes.spec(64, 48))
    two = fakes.clip(tmp_path / "two.ts", 5, fakes.spec(96, 64))
    both = tmp_path / "both.ts"
    both.write_bytes(one.read_bytes() + two.read_bytes())
    done = upscale(cli, both, out)
    assert done.code == 0, done.err
    assert "size changes" in done.err
    assert frames_of(out) == 10


# Where the output goes


def test_output_is_input(cli: Cli, tmp_path: Path) -> None:
    clip = fakes.clip(tmp_path / "in.mp4", 2)
    before = clip.read_bytes()
    refused(upscale(cli, clip, clip, "-y"), 2, str(clip), "is the input itself")
    link = tmp_path / "link.mp4"
    link.symlink_to(clip)
    refused(upscale(cli, clip, link, "-y"), 2, str(clip), "is the input itself")
    assert clip.read_bytes() == before
    nothing_left(tmp_path, clip, link)


def test_output_exists(cli: Cli, small_clip: Path, out: Path) -> None:
    out.write_text("precious")
    refused(upscale(cli, small_clip, out), 1, f"{out} exists; use -y to replace it")
    assert out.read_text() == "precious"
    nothing_left(out.parent, out)
    assert upscale(cli, small_clip, out, "-y").code == 0
    assert frames_of(out) == 10


def test_output_is_a_folder(cli: Cli, small_clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder.mp4"
    folder.mkdir()
    refused(upscale(cli, small_clip, folder), 1, str(folder), "is a folder")


def test_unknown_extension(cli: Cli, small_clip: Path, out: Path) -> None:
    refused(upscale(cli, small_clip, out.with_suffix(".mp5")), 2, "out.mp5", "'.mp5' (did you mean '.mp4'?)")
    refused(upscale(cli, small_clip, out.with_suffix("")), 2, "no extension")
    nothing_left(out.parent)


def test_no_folder_for_the_output(cli: Cli, small_clip: Path, tmp_path: Path) -> None:
    refused(upscale(cli, small_clip, tmp_path / "none" / "out.mp4"), 1, "there is no folder", "make it first")


def test_unwritable_folder(cli: Cli, small_clip: Path) -> None:
    # /proc refuses everybody, root too.
    refused(upscale(cli, small_clip, Path("/proc/out.mp4")), 1, "/proc/out.mp4", "cannot be written")


def test_disk_full(cli: Cli, small_clip: Path, out: Path) -> None:
    """The kernel refuses to let a file grow past 2 kB, which is met as a full disk is; with room the job goes on."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    arguments = [sys.executable, "-m", "gtasr_video", "upscale", str(small_clip), str(out), *MODEL, "--crf", "0"]
    done = subprocess.run(arguments, preexec_fn=limit, capture_output=True, text=True, check=False)
    refused(Outcome(done.returncode, done.stdout, done.stderr), 1, str(out), "File too large")
    assert not list(out.parent.glob("*.mp4"))
    assert upscale(cli, small_clip, out, "--crf", "0").code == 0
    nothing_left(out.parent, out)


def test_report_that_cannot_be_written_is_refused_before_the_work(cli: Cli, small_clip: Path, out: Path) -> None:
    missing = out.parent / "none" / "r.json"
    refused(upscale(cli, small_clip, out, "--report", str(missing)), 1, "for the report")
    refused(upscale(cli, small_clip, out, "--report", str(out)), 2, "choose another name")
    nothing_left(out.parent)


# What was asked for


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--model", "bicubik"), 2, ["no model 'bicubik' (did you mean 'bicubic'?)"]),
        (("--model", "none.safetensors"), 1, ["none.safetensors", "no such weights file"]),
        (("--scale", "9"), 2, ["bicubic enlarges by 1 to 8, not 9"]),
        (("--scale", "two"), 2, ["two", "see gtasr-video upscale --help"]),
        (("--device", "cuda:63"), 1, ["cuda:63", "use --device cpu"]),
        (("--device", "gpu"), 2, ["gpu", "use auto, cpu, cuda or cuda:N"]),
        (("--codec", "h266"), 2, ["unknown codec 'h266' (did you mean 'h26"]),
        (("--preset", "medum"), 2, ["'medum' (did you mean 'medium'?)"]),
        (("--crf", "77"), 2, ["crf 77 is outside 0 to 51 of h264"]),
        (("--pix-fmt", "yuv420"), 2, ["'yuv420' (did you mean 'yuv420p'?)"]),
        (
            ("--config", "lvie"),
            2,
            ["no configuration named 'lvie'", "did you mean 'live'?", "shipped: fast, live, quality"],
        ),
        (("--config", "."), 2, [". is no configuration; give a .toml file, or one of fast, live, quality"]),
        (("--set", "latency=1s"), 2, ["unknown key 'latency' (did you mean 'live.latency'?)"]),
        (("--config", "none.toml"), 2, ["no configuration file none.toml"]),
        (("--set", "modle=s"), 2, ["--set modle: unknown key 'modle' (did you mean 'model'?)"]),
        (("--set", "crf=good"), 2, ["--set crf: 'crf' must be a whole number, not 'good'"]),
        (("--set", "stream.late=drop"), 2, ["unknown key 'stream.late' (did you mean 'live.late'?)"]),
        (("--set", "live.latency=soon"), 2, ["'soon' is not a time such as 500ms or 2s"]),
        (("--set", "live.metrics=here"), 2, ["'here' is not an address such as :9100"]),
        (("--set", "stream.segments=-1"), 2, ["stream.segments must be 0 (all of them) or more, not -1"]),
        (("--set", "stream.size=64x0"), 2, ["such as 1280x720, not '64x0'"]),
        (("--set", "stream.rate=0"), 2, ["a rate of 0 frames a second is none"]),
        (("--set", "stream.input_pix_fmt=yuv"), 2, ["unknown --input-pix-fmt 'yuv'"]),
        (("--set", "dtype=int4"), 2, ["'dtype' must be one of auto, float32, bfloat16, float16"]),
        (("--start", "1:75"), 2, ["start '1:75' is not a time"]),
        (("--start", "-3"), 2, ["start '-3' is not a time"]),
        (("--start", "99"), 1, ["in.mp4: start 99 s is past its end (0.400 s)"]),
        (("--start", "1e400"), 2, ["start '1e400' is more than the 1000000000 seconds that can be counted"]),
        (("--start", "1e999999999"), 2, ["start '1e999999999' is not a time"]),
        (("--duration", "inf"), 2, ["duration 'inf' is not a time"]),
        (("--duration", "1e400"), 2, ["duration '1e400' is more than the 1000000000 seconds"]),
        (("--duration", "0"), 2, ["a duration of 0"]),
        (("--frames", "0"), 2, ["frames must be at least 1"]),
        (("--frames", "9" * 400), 2, ["frames must be at most 1000000000000"]),
        (("--frames", "3", "--duration", "1"), 2, ["either a duration or a number of frames"]),
        (("--progress", "loud"), 2, ["loud", "auto", "rich", "json", "none"]),
        (("--modle", "s"), 2, ["--modle", "--model", "see gtasr-video upscale --help"]),
        (("--report", ""), 2, ["the report . is a folder"]),
        (("third.mp4",), 2, ["third.mp4 is no folder", "or there are several"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_request_that_cannot_be(
    arguments: tuple[str, ...], code: int, words: list[str], cli: Cli, small_clip: Path, out: Path
) -> None:
    refused(upscale(cli, small_clip, out, *arguments), code, *words)
    nothing_left(out.parent)


@pytest.mark.parametrize(
    ("source", "output", "option", "words"),
    [
        ("in.mp4", "out.mp4", "--also rtmp://h/app/key", "is for an OUTPUT that is an address"),
        ("in.mp4", "-", "--also rtmp://h/app/key", "is for an OUTPUT that is an address"),
        ("in.mp4", "out.mp4", "--sound none", "is for pipes, addresses and lists"),
        ("in.mp4", "out.mp4", "--loudness -16", "is for pipes, addresses and lists"),
        ("in.mp4", "out.m3u8", "--loudness -16 --sound none", "is for pipes, addresses and lists with sound"),
        ("in.mp4", "out.m3u8", "--loudness 0", "outside -70 to -5 LUFS"),
        ("in.mp4", "out.mp4", "--listen", "is for an INPUT that is an address"),
        ("-", "out.mp4", "--listen", "is for an INPUT that is an address"),
        ("-", "out.mp4", "--on-end wait", "is for addresses"),
        ("in.mp4", "out.m3u8", "--input-format nut", "is for an INPUT '-'"),
        ("-", "out.mp4", "--size 64x48", "is for an INPUT '-' that is rawvideo"),
        ("-", "out.mp4", "--input-pix-fmt nv12 --input-format y4m", "is for an INPUT '-' that is rawvideo"),
        ("in.mp4", "out_%03d.png", "--rate 10", "or numbered pictures"),
        ("-", "out.mp4", "--output-format nut", "is for an OUTPUT '-'"),
        ("in.mp4", "out.mp4", "--latency 1s", "is for streams"),
        ("-", "out.mp4", "--late drop", "give --latency too"),
        ("-", "out.mp4", "--late drop --latency none", "give --latency too"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    source: str, output: str, option: str, words: str, cli: Cli, tmp_path: Path
) -> None:
    refused(cli("upscale", source, tmp_path / output if output != "-" else output, *option.split()), 2, words)
    refused(cli("upscale", "a.mp4", "b.mp4", tmp_path, *option.split()), 2)
    nothing_left(tmp_path)


def test_a_mistake_in_a_configuration_file_names_the_line(
    cli: Cli, small_clip: Path, out: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('# mine\nmodel = "bicubic"\npresett = "slow"\n')
    outcome = cli("upscale", small_clip, out, "--config", file)
    refused(outcome, 2, f"{file}:3: unknown key 'presett' (did you mean 'preset'?)")


@pytest.mark.parametrize("address", ["ftp://user:SECRET@host/x.mp4", "rtmp://host:port/app/SECRET"])
def test_addresses_are_refused_without_repeating_their_secrets(
    address: str, cli: Cli, small_clip: Path, out: Path
) -> None:
    for outcome in (upscale(cli, address, out), cli("upscale", small_clip, address)):
        refused(outcome, 2, "address")
        assert "SECRET" not in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("rtmp://host/app/SECRET",),
        ("info", "rtmp://host/app/SECRET"),
        ("verify", "a.mp4", "b.mp4", "rtmp://host/app/SECRET"),
        ("upscale", "a.mp4", "b.mp4", "--set", "rtmp://host/app/SECRET"),
        ("upscale", "a.mp4", "b.mp4", "--set", "rtmp://host/app/SECRET?a=1"),
        ("upscale", "a.mp4", "b.mp4", "--set", "stream.also=rtmp://host/app/SECRET"),
        ("upscale", "a.mp4", "b.mp4", "--config", "rtmp://host/app/SECRET"),
        ("upscale", "a.mp4", "b.mp4", "--report", "rtmp://host/app/SECRET/report.json"),
        ("upscale", "a.mp4", "b.mp4", "--sound", "rtmp://host/app/SECRET"),
        ("upscale", "a.mp4", "b.mp4", "--model", "rtmp://host/app/SECRET"),
    ],
    ids=" ".join,
)
def test_an_address_in_the_wrong_place_keeps_its_secret(arguments: tuple[str, ...], cli: Cli) -> None:
    outcome = cli(*arguments)
    assert outcome.code
    assert outcome.err.startswith("gtasr-video: error: ")
    assert "SECRET" not in outcome.err


def test_secrets_are_taken_out_of_whatever_is_said(
    cli: Cli, small_clip: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        logging.getLogger("gtasr_video").warning("rtmp://host/app/SECRET is slow")
        raise ValueError("rtmp://host/app/SECRET is wrong")

    monkeypatch.setattr("gtasr_video.api.config.load_model", broken)
    told = upscale(cli, small_clip, out, "-v").err
    assert "warning: rtmp://host/app/*** is slow" in told
    assert "Traceback" in told
    assert "SECRET" not in told
    error = GTASRVideoError("rtmp://host/app/SECRET")
    error.add_note("to rtmp://host/app/SECRET")
    assert str(error) == "rtmp://host/app/***"
    assert describe(error) == "rtmp://host/app/*** (to rtmp://host/app/***)"


def test_what_cannot_be_sent_to_is_refused_at_once(cli: Cli, small_clip: Path) -> None:
    refused(cli("upscale", small_clip, "https://user:SECRET@host/x"), 2, "nothing can be sent to https:// addresses")


def test_missing_arguments_and_unknown_commands(cli: Cli) -> None:
    refused(cli("upscale"), 2, "missing argument", "see gtasr-video upscale --help")
    refused(cli("upscal"), 2, "no command 'upscal' (did you mean 'upscale'?)")
    refused(cli("--loud"), 2, "--loud", "see gtasr-video --help")


def test_an_error_within_says_that_it_is_ours(
    cli: Cli, small_clip: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("gtasr_video.api.config.load_model", broken)
    refused(upscale(cli, small_clip, out), 1, "please report it (ZeroDivisionError: division by zero)")
    assert "Traceback" in upscale(cli, small_clip, out, "-v").err


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("Exception from core.cpp:132: can't alloc")])
def test_too_little_memory_to_begin_is_not_ours(
    cli: Cli, small_clip: Path, out: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("gtasr_video.api.config.load_model", broken)
    refused(upscale(cli, small_clip, out), 1, "not enough memory; close other programs")


def test_a_file_name_with_everything_in_it(cli: Cli, tmp_path: Path) -> None:
    clip = fakes.clip(tmp_path / "in.mp4", 2)
    strange = tmp_path / "-a: b'\"\n%d \u00e9.mp4"
    os.rename(clip, strange)  # noqa: PTH104
    assert upscale(cli, strange, tmp_path / "%05d out.mp4").code == 0
    assert frames_of(tmp_path / "%05d out.mp4") == 2
    missing = tmp_path / "no\nsuch.mp4"
    refused(upscale(cli, missing, tmp_path / "x.mp4"), 1, "no such.mp4")


def frames_of(path: Path) -> int:
    with av.open(f"file:{path}") as container:
        return sum(1 for _ in container.decode(video=0))

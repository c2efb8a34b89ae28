"""What survives: containers x codecs x features, each tried with real files, as a table for docs/fidelity.md.

    python -m benchmarks.fidelity            # prints the table, and fails if anything was lost without a word

Every cell is one run of a network that changes nothing (bicubic x1) over a clip that has the feature, and a look at
the output with another reading. "kept": it is there, the same. "converted": it is there in another form, and the facts
say so. "refused": the run ends before any work, naming a way out. "told": a warning says that it is not there.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
from av.stream import Disposition

import gtasr_video
from gtasr_video import Reader
from gtasr_video.errors import UsageError

TARGETS = [
    *((".mp4", codec) for codec in ("h264", "h265", "av1", "vp9")),
    *((".mov", codec) for codec in ("h264", "h265", "prores")),
    *((".mkv", codec) for codec in ("h264", "h265", "av1", "vp9", "prores", "ffv1")),
    *((".webm", codec) for codec in ("vp9", "av1")),
    *((".ts", codec) for codec in ("h264", "h265")),
]
PRESETS = {"h264": "ultrafast", "h265": "ultrafast", "av1": "12", "vp9": "8"}
Seen = Callable[[Path, Path], bool]


def ffmpeg(*arguments: str | Path) -> None:
    """Make a source."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True)


def lossless(folder: Path, name: str, *more: str, size: str = "96x64", pix_fmt: str = "yuv420p") -> Path:
    """Make a clip of a second."""
    path = folder / name
    source = f"testsrc2=s={size}:r=24000/1001:d=1,format={pix_fmt}"
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", "ffv1", *more, path)
    return path


def sources(folder: Path) -> dict[str, Path]:
    """Make a clip for each feature."""
    plain = lossless(folder, "plain.mkv")
    words, cover, font = folder / "words.srt", folder / "cover.png", folder / "font.ttf"
    words.write_text("1\n00:00:00,200 --> 00:00:00,700\nHello\n")
    ffmpeg("-i", plain, "-frames:v", "1", cover)
    font.write_bytes(b"not really a font" * 20)
    tone = ("-f", "lavfi", "-i", "sine=d=1", "-f", "lavfi", "-i", "sine=f=900:d=1")
    two_tones = ("-map", "0", "-map", "1", "-map", "2", "-c:v", "copy", "-c:a:0", "aac", "-c:a:1", "libmp3lame")
    made: dict[str, tuple[str | Path, ...]] = {
        "sound": ("-i", plain, *tone, *two_tones, "-metadata:s:a:0", "language=deu"),
        "text": ("-i", plain, "-i", words, "-c", "copy"),
        "cover": ("-i", plain, "-c", "copy", "-attach", cover, "-metadata:s:t", "mimetype=image/png"),
        "attachment": ("-i", plain, "-c", "copy", "-attach", font, "-metadata:s:t", "mimetype=font/ttf"),
        "tags": ("-i", plain, "-c", "copy", "-metadata", "title=Hello", "-metadata", "com.example.lens=50"),
        "two eyes": ("-i", plain, "-c", "copy", "-metadata:s:v", "stereo_mode=left_right"),
        "pixel aspect": ("-i", plain, "-vf", "setsar=4/3", "-c:v", "ffv1"),
    }
    for name, arguments in made.items():
        ffmpeg(*arguments, folder / f"{name}.mkv")
    found = {name: folder / f"{name}.mkv" for name in made}
    vfr = folder / "times.mp4"
    ffmpeg("-i", plain, "-vf", "setpts='N*N*20+7000*mod(N,2)'", "-fps_mode", "vfr", "-c:v", "libx264", "-bf", "2", vfr)
    wide = "colorspace=bt2020nc:color_primaries=bt2020"
    colours = ("-vf", f"setparams=range=pc:{wide}:color_trc=bt709")
    turned = folder / "rotation.mp4"
    ffmpeg("-i", plain, "-c:v", "libx264", folder / "upright.mp4")
    ffmpeg("-display_rotation", "90", "-i", folder / "upright.mp4", "-c", "copy", turned)
    bright = folder / "light.mp4"
    mastering = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"
    pq = ("-vf", f"format=yuv420p10le,setparams=range=tv:{wide}:color_trc=smpte2084")
    ffmpeg("-i", plain, "-c:v", "libx265", "-x265-params", f"log-level=none:{mastering}", *pq, bright)
    timecode = folder / "timecode.mov"
    ffmpeg("-i", plain, "-timecode", "01:02:03:04", "-c:v", "libx264", timecode)
    second = folder / "second.mkv"
    ffmpeg("-i", turned, "-i", turned, "-map", "0", "-map", "1", "-c", "copy", second)
    found |= {"times": vfr, "rotation": turned, "light": bright, "timecode": timecode, "second picture": second}
    found["colours"] = lossless(folder, "colours.mkv", *colours)
    found["10 bits"] = lossless(folder, "deep.mkv", pix_fmt="yuv420p10le")
    found["4:4:4"] = lossless(folder, "full.mkv", pix_fmt="yuv444p")
    found["transparency"] = lossless(folder, "clear.mkv", pix_fmt="yuva420p")
    found["bitmaps"] = with_bitmaps(folder / "bitmaps.mkv")
    found["chapters"] = with_chapters(plain, folder / "chapters.mkv")
    return found


def with_bitmaps(path: Path) -> Path:
    """Make a clip with PGS subtitles, which no encoder here makes: a set that shows nothing."""
    with av.open(str(path), "w") as output:
        film: Any = output.add_stream("libx264", rate=25)
        film.width, film.height = 96, 64
        shapes = output.add_mux_stream("hdmv_pgs_subtitle")
        for number in range(10):
            frame = av.VideoFrame(96, 64, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(film.encode(frame))
        output.mux(film.encode(None))
        packet: Any = av.Packet(bytes.fromhex("16000b0060004010000080000000800000"))
        packet.stream, packet.pts, packet.dts, packet.duration = shapes, 0, 0, 200
        packet.time_base = Fraction(1, 1000)
        output.mux(packet)
    return path


def with_chapters(plain: Path, path: Path) -> Path:
    """Make a clip with two chapters."""
    listing = path.with_suffix(".txt")
    chapter = "[CHAPTER]\nTIMEBASE=1/1000\nSTART={}\nEND={}\ntitle={}\n"
    listing.write_text(";FFMETADATA1\n" + chapter.format(0, 400, "one") + chapter.format(400, 1000, "two"))
    ffmpeg("-i", plain, "-i", listing, "-map_metadata", "1", "-map", "0", "-c", "copy", path)
    return path


def facts(path: Path) -> dict[str, Any]:
    """Return what our own reading of a file says."""
    with Reader(path) as reader:
        times = [float(f.pts * reader.spec.time_base) for f in reader]
        return {"spec": reader.spec, "times": times, **reader.facts()}


def same(*names: str) -> Seen:
    """Return a look at whether facts are the same."""
    return lambda source, output: all(facts(source)[n] == facts(output)[n] for n in names)


def same_times(source: Path, output: Path) -> bool:
    """Look whether every frame has its time, to half a millisecond."""
    before, after = facts(source)["times"], facts(output)["times"]
    return len(before) == len(after) and all(abs(a - b) <= 0.00051 for a, b in zip(before, after, strict=True))


def streams(kind: str, *, count: int = 1) -> Seen:
    """Return a look at whether there are so many streams of a kind."""

    def look(_: Path, output: Path) -> bool:
        with av.open(str(output)) as container:
            return sum(s.type == kind for s in container.streams) == count

    return look


def has_cover(_: Path, output: Path) -> bool:
    """Look for a marked cover."""
    with av.open(str(output)) as container:
        return any(s.disposition & Disposition.attached_pic for s in container.streams.video)


def has_tags(_: Path, output: Path) -> bool:
    """Look for the title and the tag of another name."""
    with av.open(str(output)) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    return (tags.get("title"), tags.get("com.example.lens")) == ("Hello", "50")


def has_timecode(_: Path, output: Path) -> bool:
    """Look for the timecode of the picture."""
    with av.open(str(output)) as container:
        tags = {key.lower(): value for key, value in container.streams.video[0].metadata.items()}
    return tags.get("timecode") == "01:02:03:04"


def has_chapters(_: Path, output: Path) -> bool:
    """Look for both chapters."""
    with av.open(str(output)) as container:
        return [c["metadata"].get("title") for c in container.chapters()] == ["one", "two"]


def has_two_eyes(_: Path, output: Path) -> bool:
    """Look whether it says where the pictures for the two eyes are."""
    with Reader(output) as reader:
        return reader.stereo_mode == "left_right"


def has_light(_: Path, output: Path) -> bool:
    """Look for PQ, ten bits, mastering display and light level."""
    spec = facts(output)["spec"]
    whole = spec.hdr is not None and spec.hdr.display is not None and spec.hdr.light == (1000, 400)
    return spec.color.transfer == 16 and spec.layout.bits == 10 and whole


LOOKS: dict[str, Seen] = {
    "times": same_times,
    "colours": same("matrix", "full_range", "primaries", "transfer"),
    "10 bits": lambda _, output: facts(output)["spec"].layout.bits == 10,
    "4:4:4": lambda _, output: facts(output)["spec"].layout.log2_chroma_w == 0,
    "light": has_light,
    "transparency": lambda _, output: facts(output)["transparent"],
    "pixel aspect": same("sample_aspect"),
    "rotation": same("rotation"),
    "two eyes": has_two_eyes,
    "sound": streams("audio", count=2),
    "text": streams("subtitle"),
    "bitmaps": streams("subtitle"),
    "second picture": streams("video", count=2),
    "cover": has_cover,
    "attachment": streams("attachment"),
    "timecode": has_timecode,
    "chapters": has_chapters,
    "tags": has_tags,
}


def tried(name: str, source: Path, output: Path, codec: str) -> str:
    """Return what became of a feature."""
    try:
        report = gtasr_video.upscale(
            source, output, model="bicubic", scale=1, device="cpu", codec=codec, preset=PRESETS.get(codec)
        )
    except UsageError:
        return "refused"
    entries = report.output["streams"]
    if LOOKS[name](source, output):
        return "converted" if any(entry["action"] == "converted" for entry in entries) else "kept"
    return "told" if report.output["warnings"] else "LOST"


def main() -> None:
    """Print the table."""
    logging.getLogger("gtasr_video").setLevel(logging.ERROR)
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = sources(folder)
        print("| |", " | ".join(f"{suffix} {codec}" for suffix, codec in TARGETS), "|")
        print("|---|" + "---|" * len(TARGETS))
        for feature in LOOKS:
            cells = []
            for number, (suffix, codec) in enumerate(TARGETS):
                output = folder / f"{feature.replace(':', '')} {number}{suffix}"
                cells.append(tried(feature, made[feature], output, codec))
                counts[cells[-1]] = counts.get(cells[-1], 0) + 1
            print(f"| {feature} | {' | '.join(cells)} |", flush=True)
    print(f"\n{sum(counts.values())} combinations tried: {', '.join(f'{n} {word}' for word, n in counts.items())}")
    sys.exit("something was lost without a word" if "LOST" in counts else 0)


if __name__ == "__main__":
    main()

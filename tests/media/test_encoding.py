"""What may be asked of which codec in which file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from gtasr_video.errors import UsageError, describe
from gtasr_video.frames import ColorSpec, VideoSpec
from gtasr_video.media.codecs import CODECS, CONTAINERS, GOALS, pixel_formats
from gtasr_video.media.encoding import Encoding, Plan, plan
from gtasr_video.media.planes import LAYOUTS
from gtasr_video.media.streams.outlets import PIPE_FORMATS
from tests.clips import make_clip


def spec(layout: str = "yuv420p", width: int = 64, height: int = 48) -> VideoSpec:
    matrix = "rgb" if layout.startswith("gbrp") else "bt709"
    return VideoSpec(width, height, Fraction(1, 25), LAYOUTS[layout], ColorSpec(matrix, matrix == "rgb"))


def chosen(name: str, layout: str = "yuv420p", **options: object) -> Plan:
    return plan(Path(name), Encoding(**options), spec(layout))  # type: ignore[arg-type]


def test_the_defaults() -> None:
    usual = chosen("a.mp4")
    assert (usual.codec.name, usual.preset, usual.crf, usual.pix_fmt) == ("h264", "veryfast", 18, "yuv420p")
    assert chosen("a.webm").codec.name == "vp9"
    assert chosen("A.MKV").codec.name == "h264"
    assert chosen("a.mov", codec="prores").preset == "hq"
    assert chosen("a.mov", "yuv444p", codec="prores").preset == "4444"


@pytest.mark.parametrize("codec", [codec for codec in CODECS if CODECS[codec].goals])
def test_a_goal_is_each_codecs_own_crf_and_preset(codec: str) -> None:
    found = {goal: chosen("a.mkv", codec=codec, goal=goal) for goal in GOALS}
    crf = {goal: plan.crf or 0 for goal, plan in found.items()}
    assert crf["quality"] < crf["balanced"] == crf["speed"] < crf["live"]
    presets = CODECS[codec].presets
    speed = {goal: presets.index(plan.preset or "") for goal, plan in found.items()}
    slow, fast = ("quality", "speed") if codec in ("av1", "vp9") else ("speed", "quality")
    assert speed[slow] < speed["balanced"] < speed[fast]


def test_what_is_given_goes_before_the_goal() -> None:
    plan = chosen("a.mkv", goal="quality", crf=30)
    assert (plan.crf, plan.preset) == (30, "slow")
    with pytest.raises(UsageError, match=r"not 'qualty' \(did you mean 'quality'\?\)"):
        chosen("a.mkv", goal="qualty")


@pytest.mark.parametrize(
    ("codec", "layout", "expected"),
    [
        ("h264", "yuv420p10le", "yuv420p10le"),
        ("h264", "yuv422p12le", "yuv422p10le"),
        ("h264", "yuv444p", "yuv444p"),
        ("h264", "gray", "gray"),
        ("h264", "gbrp", "yuv444p"),
        ("h265", "yuv420p12le", "yuv420p12le"),
        ("h265", "gbrp10le", "yuv444p10le"),
        ("av1", "yuv444p10le", "yuv420p10le"),
        ("av1", "gray", "yuv420p"),
        ("prores", "yuv420p", "yuv422p10le"),
        ("prores", "yuv444p12le", "yuv444p10le"),
        ("ffv1", "yuv422p16le", "yuv422p16le"),
        ("ffv1", "gbrp", "gbrp"),
        ("ffv1", "gbrp12le", "gbrp12le"),
    ],
)
def test_depth_and_chroma_are_kept_where_the_codec_can(codec: str, layout: str, expected: str) -> None:
    found = chosen("a.mkv", layout, codec=codec)
    assert found.spec.layout.name == expected
    rgb = expected.startswith("gbrp")
    assert (found.spec.color.matrix == "rgb") == rgb
    assert found.spec.color.full_range == rgb


@pytest.mark.parametrize("name", CODECS)
def test_this_build_has_every_codec(name: str) -> None:
    assert pixel_formats(CODECS[name].encoder)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.xyz", {}, "unknown extension '.xyz'"),
        ("a.mp5", {}, "did you mean '.mp4'?"),
        ("noextension", {}, "no extension"),
        ("a.avi", {}, "unknown extension"),
        ("a.mp4", {"codec": "h266"}, "did you mean 'h265'?"),
        ("a.webm", {"codec": "h264"}, "--codec vp9, av1"),
        ("a.mp4", {"codec": "prores"}, ".mov"),
        ("a.mp4", {"codec": "ffv1"}, "use .mkv"),
        ("a.mp4", {"crf": 52}, "0 to 51"),
        ("a.mp4", {"crf": -1}, "0 to 51"),
        ("a.mkv", {"codec": "ffv1", "crf": 10}, "no crf"),
        ("a.mkv", {"codec": "ffv1", "preset": "fast"}, "no presets"),
        ("a.mp4", {"preset": "veryfst"}, "did you mean 'veryfast'?"),
        ("a.mov", {"codec": "prores", "preset": "veryfast"}, "proxy, lt"),
        ("a.mp4", {"pix_fmt": "yuv420p12le"}, "cannot encode 'yuv420p12le'"),
        ("a.mp4", {"pix_fmt": "yuv42p"}, "did you mean"),
        ("a.mp4", {"pix_fmt": "nonsense"}, "use one of yuv420p"),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        chosen(name, **options)
    line = describe(caught.value)
    assert message in line, line
    assert "\n" not in line


def test_names_people_use_are_understood() -> None:
    for alias, name in (("hevc", "h265"), ("x264", "h264"), ("H265", "h265"), ("AV1", "av1")):
        assert chosen("a.mp4", codec=alias).codec.name == name


def test_odd_sizes_become_even_only_where_they_must() -> None:
    odd = spec(width=65, height=49)
    for codec, size in (
        ("h264", (66, 50)),
        ("h265", (66, 50)),
        ("vp9", (65, 49)),
        ("av1", (65, 49)),
        ("ffv1", (65, 49)),
    ):
        found = plan(Path("a.mkv"), Encoding(codec=codec), odd)
        assert (found.width, found.height) == size, codec
        assert (found.spec.width, found.spec.height) == (65, 49)
    whole = plan(Path("a.mkv"), Encoding(), spec("yuv444p", 65, 49))
    assert (whole.width, whole.height) == (65, 49)
    half = plan(Path("a.mkv"), Encoding(), spec("yuv422p", 65, 49))
    assert (half.width, half.height) == (66, 49)


def test_a_picture_too_small_for_the_codec_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 32"):
        plan(Path("a.mp4"), Encoding(codec="h265"), spec(width=16, height=16))


def test_every_codec_has_a_container_and_every_container_a_codec() -> None:
    forms = [*CONTAINERS.values(), *PIPE_FORMATS.values()]
    assert {name for c in forms for name in c.codecs} == set(CODECS)


ENCODE = """
import hashlib, json, sys
from fractions import Fraction
import av, numpy as np
texture = np.random.default_rng(0).integers(0, 255, (156, 440), dtype=np.uint8).astype(np.float32)
soft = sum(np.roll(texture, k, axis=1) for k in range(5)) / 5
context = av.CodecContext.create("libx264", "w")
context.width, context.height, context.pix_fmt = 320, 96, "yuv420p"
context.time_base, context.framerate, context.options = Fraction(1, 25), Fraction(25), json.loads(sys.argv[1])
packets = []
for number in range(60):
    luma = soft[number // 3 : number // 3 + 96, number : number + 320]
    picture = np.vstack([luma, np.full((48, 320), 128)]).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, "yuv420p")
    frame.pts = number
    packets += context.encode(frame)
print(hashlib.sha256(b"".join(map(bytes, packets + context.encode(None)))).hexdigest())
"""


def test_the_same_pictures_become_the_same_bytes_whatever_memory_held_before() -> None:
    """With the instructions of a processor that has AVX-512 x264 reads memory that nobody wrote: here in each run."""
    options = json.dumps(plan(Path("a.mp4"), Encoding(crf=1), spec(width=320, height=96)).options)
    command = [sys.executable, "-c", ENCODE, options]
    made = set()
    for pattern in ("1", "85", "170"):
        environment = os.environ | {"MALLOC_PERTURB_": pattern}
        made.add(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
    assert len(made) == 1


_SMALL = """
import sys
from pathlib import Path
from gtasr_video.media import Encoding, Reader, Writer
made = set()
for number in range(12):
    with Reader(sys.argv[1]) as reader:
        with Writer(sys.argv[2], reader.spec, Encoding("h265"), overwrite=True) as writer:
            for frame in reader:
                writer.write(frame)
    made.add(Path(sys.argv[2]).read_bytes())
sys.exit(len(made) != 1)
"""


@pytest.mark.parametrize("size", [(36, 36), (48, 34)])
def test_small_pictures_do_not_crash_h265(tmp_path: Path, size: tuple[int, int]) -> None:
    source = make_clip(tmp_path / "in.mkv", codec="ffv1", size=size, frames=12)
    names = [str(source), str(tmp_path / "out.mp4")]
    assert subprocess.run([sys.executable, "-c", _SMALL, *names], check=False).returncode == 0

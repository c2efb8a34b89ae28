"""Make the clip that 8-bit convolutions are calibrated on: python benchmarks/calibration_clip.py OUT.mp4 CLIP...

Takes frames 2 to 5 of each CLIP, makes them 192x112 by area, and writes them one after another as H.264, as small
pictures reach the network. Prints the path and size of what was made.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import ffmpeg
import imageio_ffmpeg

WIDTH, HEIGHT, FIRST, FRAMES = 192, 112, 2, 4


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("clips", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def main(out: Path, clips: tuple[Path, ...]) -> None:
    """Write OUT."""
    shots = [
        ffmpeg.input(str(clip))
        .filter("trim", start_frame=FIRST, end_frame=FIRST + FRAMES)
        .filter("setpts", "N/25/TB")
        .filter("scale", WIDTH, HEIGHT, flags="area")
        .filter("setsar", 1)
        for clip in clips
    ]
    options = {"vcodec": "libx264", "pix_fmt": "yuv420p", "crf": 21, "r": 25, "x264-params": "keyint=4:scenecut=0"}
    joined = ffmpeg.concat(*shots).output(str(out), map_metadata=-1, fflags="+bitexact", **options)
    joined.run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), overwrite_output=True, quiet=True)
    click.echo(json.dumps({"path": str(out), "shots": len(clips), "bytes": out.stat().st_size}))


if __name__ == "__main__":
    main()

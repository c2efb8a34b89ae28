"""Before the GPU jobs, on a machine with the data: make one folder that holds all they need.

python benchmarks/gpu/prepare.py --data DIR --vgg FILE --out carry [--max-bytes 24M] [--init m.safetensors ...]

The folder gets `pack/`, `vgg.safetensors` (the three blocks that the training loss looks at, in fp16) and the weights
to go on from, in fp16. A pack that is there stays. Prints what each file takes, and fails above 60 MiB.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch
from safetensors.torch import save_file

from gtasr_video.models.checkpoint import read_tensors, write_tensors
from gtasr_video.models.vgg import read_weights
from gtasr_video.training.pack import pack
from gtasr_video.training.pack_command import Bytes

LIMIT = 60 * 2**20
LAYERS = 3


@click.command()
@click.option("--data", multiple=True, required=True, type=click.Path(path_type=Path))
@click.option("--vgg", required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--max-bytes", type=Bytes(), default="24M", show_default=True)
@click.option("--init", "weights", multiple=True, type=click.Path(path_type=Path))
def main(data: tuple[Path, ...], vgg: Path, out: Path, max_bytes: int, weights: tuple[Path, ...]) -> None:
    """Fill the folder."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "pack").exists():
        pack(data, out / "pack", max_bytes)
    if not (out / "vgg.safetensors").exists():
        save_file({k: v.half() for k, v in read_weights(vgg, LAYERS).items()}, out / "vgg.safetensors")
    for file in weights:
        tensors, metadata = read_tensors(file)
        write_tensors(out / file.name, {k: v.to(torch.float16) for k, v in tensors.items()}, metadata)
    sizes = {f.relative_to(out).as_posix(): f.stat().st_size for f in sorted(out.rglob("*")) if f.is_file()}
    for name, size in sizes.items():
        click.echo(f"{size / 2**20:7.2f} MiB  {name}")
    total = sum(sizes.values())
    click.echo(f"{total / 2**20:7.2f} MiB in all")
    if total > LIMIT:
        raise click.ClickException(
            f"more than {LIMIT // 2**20} MiB: give a smaller --max-bytes, and delete {out / 'pack'}"
        )


if __name__ == "__main__":
    main()

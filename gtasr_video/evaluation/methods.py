"""What can be measured: this package's models, two filters, any ncnn model, and any outside program.

Each turns the degraded LR video into a file with one larger picture for every frame.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.config import nearest
from gtasr_video.device import Device
from gtasr_video.errors import EvaluationError
from gtasr_video.evaluation.cache import file_hash, key
from gtasr_video.evaluation.streams import read_frames, write_frames
from gtasr_video.evaluation.truth import to_bytes, to_unit
from gtasr_video.models import VideoModel, load_model
from gtasr_video.ops.resize import enlarge

Upscale = Callable[[Iterator[Tensor]], Iterator[Tensor]]


class Method(Protocol):
    """A named way to enlarge a video. `identity` stands for all that its output depends on; None: never cached."""

    @property
    def name(self) -> str:
        """Short name for tables."""

    @property
    def identity(self) -> str | None:
        """What the output depends on besides the input, or None if that cannot be told."""

    def render(self, source: Path, target: Path) -> None:
        """Enlarge the video `source` into the file `target`; raises EvaluationError or ModelError."""


@dataclass(frozen=True, slots=True)
class FrameMethod:
    """A method that works in this process: LR frames in, larger frames out, uint8 (3, H, W)."""

    name: str
    identity: str | None
    upscale: Upscale

    def render(self, source: Path, target: Path) -> None:
        """Enlarge `source` into the lossless file `target`."""
        write_frames(target, self.upscale(read_frames(source)))


@dataclass(frozen=True, slots=True)
class Program:
    """An outside program: `command` with ``{input}`` and ``{output}`` in it, split as a shell would, run without one.

    Its output is kept for as long as the command and every file named in it, the program included, are the
    same; a program that changes in other ways must be run with the cache off.
    """

    command: str

    def __post_init__(self) -> None:
        if "{input}" not in self.command or "{output}" not in self.command:
            raise EvaluationError(f"peer command '{self.command}' needs {{input}} and {{output}} in it")
        program = self._words(Path("i"), Path("o"))[0]
        if shutil.which(program) is None:
            raise EvaluationError(f"peer command '{self.command}': no program '{program}'")

    @property
    def name(self) -> str:
        """The program's name."""
        return Path(self._words(Path("i"), Path("o"))[0]).name

    @property
    def identity(self) -> str:
        """The command and the content of all files named in it."""
        words = self._words(Path("{input}"), Path("{output}"))
        files = [Path(shutil.which(words[0]) or words[0]), *map(Path, words[1:])]
        return key("program", words, [file_hash(file) for file in files if file.is_file()])

    def render(self, source: Path, target: Path) -> None:
        """Run the program; raises EvaluationError, with the last line it said, if it fails or leaves no file."""
        part = target.with_name(f"{target.stem}.part{target.suffix}")
        try:
            done = self._run(source, part)
            if done.returncode or not part.is_file():
                said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
                reason = said[-1].strip() if said else "it said nothing"
                what = f"failed with {done.returncode}" if done.returncode else "wrote no file {output}"
                raise EvaluationError(f"peer command '{self.command}' {what} ({reason})")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def _run(self, source: Path, target: Path) -> subprocess.CompletedProcess[bytes]:
        words = self._words(source, target)
        try:
            return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        except OSError as error:
            raise EvaluationError(f"peer command '{self.command}' cannot be run ({error.strerror})") from error

    def _words(self, source: Path, target: Path) -> list[str]:
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise EvaluationError(f"peer command '{self.command}': {error}") from error
        return [w.replace("{input}", str(source)).replace("{output}", str(target)) for w in words]


def bicubic(scale: int) -> FrameMethod:
    """Return bicubic enlargement, the yardstick of every ratio (torch's kernel, a = -0.75 for enlarging)."""

    def upscale(frames: Iterator[Tensor]) -> Iterator[Tensor]:
        return (to_bytes(enlarge(to_unit(frame), scale)) for frame in frames)

    return FrameMethod("bicubic", f"bicubic x{scale}", upscale)


def lanczos(scale: int) -> FrameMethod:
    """Return Lanczos enlargement (Pillow's, three lobes)."""
    from PIL import Image

    def upscale(frames: Iterator[Tensor]) -> Iterator[Tensor]:
        for frame in frames:
            picture = Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy())
            size = (picture.width * scale, picture.height * scale)
            large = np.array(picture.resize(size, Image.Resampling.LANCZOS))
            yield torch.from_numpy(large).permute(2, 0, 1)

    return FrameMethod("lanczos", f"lanczos x{scale}", upscale)


def model(name: str, scale: int, device: Device, seed: int, steps: int = 1, *, memory: bool = True) -> FrameMethod:
    """Return one of this package's networks, a tier's name or a .safetensors file; raises ModelError.

    steps   as in `load_model`; more than one is said in the method's name
    memory  as in `run_model`; none is said in the method's name

    Never cached: its output depends on the code as well as on the weights.
    """
    network = load_model(name, scale=scale, steps=steps)
    if isinstance(network, torch.nn.Module):
        dtype = device.dtype if device.dtype in network.facts.dtypes else torch.float32
        network.to(device=device.torch_device, dtype=dtype).eval()

    def upscale(frames: Iterator[Tensor]) -> Iterator[Tensor]:
        return run_model(network, frames, device.torch_device, seed, memory=memory)

    label = Path(name).stem if name.endswith(".safetensors") else name
    said = [f"{steps} steps"] * (steps != 1) + ["no memory"] * (not memory)
    return FrameMethod(", ".join([label, *said]), None, upscale)


def run_model(
    network: VideoModel, frames: Iterator[Tensor], device: torch.device, seed: int = 0, *, memory: bool = True
) -> Iterator[Tensor]:
    """Yield `network`'s uint8 (3, s H, s W) for each uint8 (3, H, W) of one stream without cuts.

    memory  False makes every frame the first of a stream: what is left is the network without its temporal parts
    """
    facts, state = network.facts, None
    for frame in frames:
        height, width = frame.shape[-2:]
        x = _padded(to_unit(frame).to(device) * 2 - 1, facts.multiple_of)
        with torch.inference_mode():
            if state is None or not memory:
                state = network.initial(1, *x.shape[-2:])
            y, state = network.step(x, state, seed=seed)
        yield to_bytes((y.cpu() + 1) / 2)[:, : height * facts.scale, : width * facts.scale]


def ncnn(param: Path, scale: int) -> FrameMethod:
    """Return a network in ncnn's format: `param` and the .bin beside it, blob `data` to `output`, RGB in [0, 1].

    Raises EvaluationError if ncnn is not installed or the files cannot be read.
    """
    weights = param.with_suffix(".bin")
    for file in (param, weights):
        if not file.is_file():
            raise EvaluationError(f"{file}: no such file; an ncnn model is a .param and a .bin file")
    net = _load_ncnn(param, weights)

    def upscale(frames: Iterator[Tensor]) -> Iterator[Tensor]:
        return (_run_ncnn(net, frame, param) for frame in frames)

    return FrameMethod(param.stem, key("ncnn", file_hash(param), file_hash(weights), scale), upscale)


def peer(name: str, scale: int) -> FrameMethod:
    """Return a built-in peer (``bicubic``, ``lanczos``) or an ncnn model by the path of its .param file."""
    if name.endswith((".param", ".bin")):
        return ncnn(Path(name).with_suffix(".param"), scale)
    makers = {"bicubic": bicubic, "lanczos": lanczos}
    if name not in makers:
        hint = nearest(name, makers)
        raise EvaluationError(f"no peer '{name}'{hint}; use bicubic, lanczos or the path of a .param file")
    return makers[name](scale)


def _load_ncnn(param: Path, weights: Path) -> Any:
    try:
        import ncnn as library
    except ImportError as error:
        raise EvaluationError(f"{param}: needs ncnn; pip install 'gtasr-video[peers]'") from error
    net = library.Net()
    net.opt.use_vulkan_compute = False
    net.opt.num_threads = torch.get_num_threads()
    if net.load_param(str(param)) or net.load_model(str(weights)):
        raise EvaluationError(f"{param}: not an ncnn model")
    if "data" not in net.input_names() or "output" not in net.output_names():
        raise EvaluationError(f"{param}: has no blobs named 'data' and 'output'")
    return net


def _run_ncnn(net: Any, frame: Tensor, param: Path) -> Tensor:
    import ncnn as library

    pixels = (frame.float() / 255).contiguous().numpy()  # kept alive: ncnn does not copy it
    extractor = net.create_extractor()
    extractor.input("data", library.Mat(pixels))
    failed, output = extractor.extract("output")
    if failed:
        raise EvaluationError(f"{param}: ncnn could not run it")
    return to_bytes(torch.from_numpy(np.array(output))[None])


def _padded(x: Tensor, multiple: int) -> Tensor:
    """Repeat the right and bottom border until both sides are multiples of `multiple`."""
    down, right = (-x.shape[-2] % multiple, -x.shape[-1] % multiple)
    return F.pad(x, (0, right, 0, down), mode="replicate") if down or right else x

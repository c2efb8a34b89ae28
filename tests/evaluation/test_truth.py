"""Truth is found, cropped and damaged the same way every time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gtasr_video.errors import EvaluationError, UsageError
from gtasr_video.evaluation.cache import Cache
from gtasr_video.evaluation.streams import read_frames, write_frames
from gtasr_video.evaluation.truth import (
    DEGRADATIONS,
    Clip,
    Degradation,
    _shrink,
    degrade,
    find,
    prepare,
    to_bytes,
    to_unit,
)
from tests.evaluation.conftest import scene


def test_videos_and_pictures_are_found_and_named(truth_folder: Path) -> None:
    assert [name for name, _ in find([truth_folder])] == ["moving", "stills/still"]
    assert [name for name, _ in find([truth_folder / "moving.mp4"])] == ["moving"]


def test_equal_names_are_told_apart(truth_folder: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / "moving.mkv", scene(1))
    names = [name for name, _ in find([truth_folder, tmp_path])]
    assert len(set(names)) == 3


def test_own_sheets_and_hidden_files_are_no_truth(truth_folder: Path, tmp_path: Path) -> None:
    """`evaluate . --out report` measured its own sheets the second time; macOS lays a `._` file beside each."""
    (tmp_path / "linked").symlink_to(truth_folder)
    (tmp_path / "report" / "sheets").mkdir(parents=True)
    (tmp_path / "report" / "sheets" / "moving-web.jpg").write_bytes(b"a picture")
    (tmp_path / "report" / "results.json").write_text("{}")
    (tmp_path / "._moving.mp4").write_bytes(b"of another system")
    assert [name for name, _ in find([tmp_path])] == ["linked/moving", "linked/stills/still"]
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    with pytest.raises(EvaluationError, match=r"gone\.mp4.*cannot be read"):
        find([tmp_path])


def test_no_truth_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="holds no video or picture"):
        find([tmp_path])
    with pytest.raises(EvaluationError, match="no such file or folder"):
        find([tmp_path / "none"])


@pytest.mark.parametrize(("scale", "size"), [(4, (96, 128)), (3, (96, 132)), (2, (96, 132))])
def test_the_crop_gives_an_even_lr_size(truth_folder: Path, cache: Cache, scale: int, size: tuple[int, int]) -> None:
    clip = prepare("moving", truth_folder / "moving.mp4", scale, None, cache)
    assert (clip.height, clip.width, clip.frames) == (*size, 4)
    whole = next(read_frames(truth_folder / "moving.mp4"))
    assert torch.equal(next(read_frames(clip.path)), whole[:, : size[0], : size[1]])


def test_too_small_a_truth_is_an_error(tmp_path: Path, cache: Cache) -> None:
    write_frames(tmp_path / "tiny.mkv", scene(1, 48, 48))
    with pytest.raises(EvaluationError, match=r"tiny\.mkv: 48x48 is too small"):
        prepare("tiny", tmp_path / "tiny.mkv", 4, None, cache)


def test_a_limit_of_frames_is_another_clip(truth_folder: Path, cache: Cache) -> None:
    whole, part = (prepare("moving", truth_folder / "moving.mp4", 4, n, cache) for n in (None, 2))
    assert (whole.frames, part.frames) == (4, 2)
    assert whole.digest != part.digest


@pytest.mark.parametrize("name", sorted(DEGRADATIONS))
def test_each_degradation_shrinks_and_repeats(clip: Clip, cache: Cache, name: str, tmp_path: Path) -> None:
    first = degrade(clip, name, 4, 0, cache)
    frames = list(read_frames(first.path))
    assert len(frames) == clip.frames and frames[0].shape == (3, clip.height // 4, clip.width // 4)
    other = Cache(tmp_path / "other")
    assert degrade(clip, name, 4, 0, other).path.read_bytes() == first.path.read_bytes()
    other.close()


def test_the_seed_matters_where_there_is_noise(clip: Clip, cache: Cache) -> None:
    one, two = (degrade(clip, "hard", 4, seed, cache).path.read_bytes() for seed in (0, 1))
    assert one != two


def test_hard_noise_and_blur_have_the_strength_they_say() -> None:
    grey = [torch.full((3, 256, 256), 128, dtype=torch.uint8)]
    noisy = next(_shrink(iter(grey), DEGRADATIONS["hard"], 4, 0)).float()
    assert noisy.std().item() == pytest.approx(6, rel=0.05)
    dot = torch.zeros(3, 129, 129, dtype=torch.uint8)
    dot[:, 64, 64] = 255
    blurred = next(_shrink(iter([dot]), Degradation(crf=28, blur=1.2), 1, 0)).float()
    at = torch.arange(129).float() - 64
    spread = (blurred[0].sum(0) * at**2).sum() / blurred[0].sum()
    assert spread.sqrt().item() == pytest.approx(1.2, abs=0.1)


def test_stronger_compression_makes_smaller_files(clip: Clip, cache: Cache) -> None:
    sizes = [degrade(clip, name, 4, 0, cache).path.stat().st_size for name in ("clean", "x264-23", "web")]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3


def test_an_unknown_degradation_names_the_nearest(clip: Clip, cache: Cache) -> None:
    with pytest.raises(UsageError, match="did you mean 'clean'"):
        degrade(clip, "claen", 4, 0, cache)


def test_bytes_and_unit_are_inverse() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, 16, 16)
    assert torch.equal(to_bytes(to_unit(every)), every)

"""Sheets show the same place of every method, and time running down a slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from gtasr_video.evaluation.sheets import View, contact_sheet, find_detail, find_view, look, panels, save_sheet
from gtasr_video.evaluation.streams import write_frames
from tests.evaluation.conftest import scene


def test_the_view_is_where_the_detail_is() -> None:
    frame = torch.full((3, 200, 300), 90, dtype=torch.uint8)
    frame[:, 120:168, 200:248] = torch.randint(0, 256, (3, 48, 48), dtype=torch.uint8)
    view = find_detail(frame, 64)
    assert view.top <= 120 and view.left <= 200 and view.top + 64 >= 168 and view.left + 64 >= 248


def test_a_view_fits_a_small_picture(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.mkv", scene(5, 72, 90))
    view = find_view(tmp_path / "a.mkv", 160)
    assert view.size == 72 and view.frame == 2


def test_a_panel_holds_the_frame_and_the_row_over_time(tmp_path: Path) -> None:
    frames = scene(5, 96, 128)
    write_frames(tmp_path / "a.mkv", frames)
    panel = look("a", tmp_path / "a.mkv", View(top=16, left=24, size=48, frame=3))
    assert np.array_equal(panel.crop, frames[3][:, 16:64, 24:72].permute(1, 2, 0))
    assert panel.slice.shape == (5, 48, 3)
    assert all(np.array_equal(panel.slice[k], frames[k][:, 40, 24:72].T) for k in range(5))


def test_steady_motion_is_a_slanted_line(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.mkv", scene(5, 96, 128, step=2))
    lines = look("a", tmp_path / "a.mkv", View(0, 0, 64, 0)).slice
    assert np.array_equal(lines[1, :-2], lines[0, 2:])


def test_an_lr_video_covers_the_same_place_in_larger_pixels(tmp_path: Path) -> None:
    frames = scene(2, 24, 32)
    write_frames(tmp_path / "lr.mkv", frames)
    panel = look("input", tmp_path / "lr.mkv", View(32, 64, 48, 1), enlarge=4)
    assert panel.crop.shape == (48, 48, 3) and panel.slice.shape == (2, 48, 3)
    assert np.array_equal(panel.crop[::4, ::4], frames[1][:, 8:20, 16:28].permute(1, 2, 0))


def test_input_comes_first_and_truth_last(tmp_path: Path) -> None:
    write_frames(tmp_path / "hr.mkv", scene(3, 96, 128))
    write_frames(tmp_path / "lr.mkv", scene(3, 24, 32))
    results = {"bicubic": tmp_path / "hr.mkv", "ours": tmp_path / "hr.mkv"}
    columns = panels(tmp_path / "hr.mkv", tmp_path / "lr.mkv", results, 4, size=64)
    assert [p.label for p in columns] == ["input", "bicubic", "ours", "truth"]
    assert len({p.crop.shape for p in columns}) == len({p.slice.shape for p in columns}) == 1


def test_a_sheet_has_room_for_all_and_shows_the_pixels(tmp_path: Path) -> None:
    write_frames(tmp_path / "hr.mkv", scene(3, 96, 128))
    panel = look("ours", tmp_path / "hr.mkv", View(0, 0, 64, 1))
    sheet = contact_sheet([panel] * 5, zoom=2, per_row=3)
    assert sheet.width == 6 + 3 * (128 + 6)
    pixels = np.asarray(sheet)
    assert np.array_equal(pixels[20:148:2, 6:134:2], panel.crop)
    assert sheet.height > 2 * 128
    save_sheet(tmp_path / "deep" / "sheet.jpg", [panel], title="a title")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["sheet.jpg"]

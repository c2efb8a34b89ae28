"""Spoiled files of every container end in frames or in one line: no crash, hang, traceback or flood of memory."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.soak.fuzzing import SOURCES, make_sources, try_all
from tests.soak.sizes import size

CASES = size(5 * len(SOURCES), 2000)
BATCH = 100
# Far more than any case takes on a busy machine; one that has not ended by then never will.
HANGS_S = 90.0

FORKS: Any = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.soak.fuzzing"])


@pytest.mark.timeout(7200)
def test_spoiled_files_end_in_frames_or_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_sources(tmp_path)
    notes = tmp_path / "notes.txt"
    notes.touch()
    left = range(CASES)
    while left:
        tried = left[:BATCH]
        last = run(tmp_path, tried, notes)
        left = range(last + 1, CASES)
    ends = [line.split(" ", 2) for line in notes.read_text(encoding="utf-8").splitlines()]
    counts = Counter(end for _, _, end in ends)
    wrong = [" ".join(end) for end in ends if end[2] not in ("frames", "refused")]
    with capfd.disabled():
        print(
            f"\n{len(ends)} spoiled files in {len(SOURCES)} formats: {counts['frames']} gave frames, "
            f"{counts['refused']} were refused in one line, {len(wrong)} went wrong"
        )
    assert [int(seed) for seed, _, _ in ends] == list(range(CASES))
    assert wrong == []
    assert counts["frames"] > 0 < counts["refused"]


def run(folder: Path, seeds: range, notes: Path) -> int:
    """Try `seeds` in a process; return the last that was tried, with a note if the process died or hung in it."""
    process = FORKS.Process(target=try_all, args=(folder, seeds, notes))
    process.start()
    size_before = -1
    while process.is_alive():
        process.join(HANGS_S)
        now = notes.stat().st_size
        if process.is_alive() and now == size_before:
            process.kill()
            process.join()
            _note(notes, f"hung for {HANGS_S:g} s")
        size_before = now
    if process.exitcode and not notes.read_text(encoding="utf-8").endswith("\n"):
        _note(notes, f"died of {process.exitcode}")
    return int(notes.read_text(encoding="utf-8").splitlines()[-1].split()[0])


def _note(notes: Path, text: str) -> None:
    with notes.open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")

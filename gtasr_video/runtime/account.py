"""An account of the frames that pass through a run: the audit of an output that is not read again."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from gtasr_video.audit import Audit, AuditError
from gtasr_video.frames import Frame, VideoSpec
from gtasr_video.media.durable import free_name
from gtasr_video.ops.brightness import brightness, has_lost_its_picture
from gtasr_video.runtime.report import Report

_NAMED = 3  # of the frames in which something is wrong, so many are named


class Account:
    """Notes every frame of `source` when it is decoded, and every frame of `output` when it is written.

    One thread may call `decoded` while another calls `written`. Frames that were given up on the way are passed over.
    """

    def __init__(self, source: VideoSpec, output: VideoSpec) -> None:
        self._source, self._output = source, output
        self._under_way: deque[tuple[int, float]] = deque()
        self._decoded = self._written = 0
        self._last: int | None = None
        self._wrong = {"came out of order": 0, "came from nowhere": 0, "lost their picture": 0}
        self._first: dict[str, list[int]] = {what: [] for what in self._wrong}

    def decoded(self, frame: Frame) -> None:
        """Note a frame that goes in."""
        self._under_way.append((frame.pts, brightness(frame, self._source)))
        self._decoded += 1

    def written(self, frame: Frame) -> None:
        """Note a frame that the writer has taken."""
        self._written += 1
        if self._last is not None and frame.pts <= self._last:
            self._note("came out of order", frame.pts)
            return
        self._last = frame.pts
        waiting = self._under_way
        while waiting and waiting[0][0] < frame.pts:
            waiting.popleft()
        if not waiting or waiting[0][0] != frame.pts:
            self._note("came from nowhere", frame.pts)
        elif has_lost_its_picture(waiting.popleft()[1], brightness(frame, self._output)):
            self._note("lost their picture", frame.pts)

    def _note(self, what: str, pts: int) -> None:
        self._wrong[what] += 1
        if len(self._first[what]) < _NAMED:
            self._first[what].append(pts)

    def audit(self, made: int, dropped: int, held: int | None) -> Audit:
        """Return what was found, where `made` frames were enlarged, `dropped` given up, and the output has `held`.

        held   None where that is not known
        """
        audit = Audit({"frames_decoded": self._decoded, "frames_dropped": dropped, "frames": self._written})
        held = self._written if held is None else held
        if not self._decoded - dropped == made == self._written == held:
            audit.faults.append(
                f"{self._decoded} frames were decoded and {dropped} given up, but {made} enlarged, {self._written} "
                f"written, and {held} are in the output"
            )
        for what, count in self._wrong.items():
            if count:
                at = ", ".join(f"{float(pts * self._source.time_base):.3f} s" for pts in self._first[what])
                audit.faults.append(f"{count} frames {what} (at {at})")
        return audit


def settled(report: Report, file: Path | None = None) -> Report:
    """Return `report` if its audit found nothing. Raises AuditError else, `file` being renamed NAME.suspect.EXT."""
    if report.audit["passed"]:
        return report
    kept = "what was written is to be doubted"
    if file is not None and file.is_file():
        aside = file.rename(free_name(file, "suspect"))
        kept = f"the result is kept as {aside.name}"
    raise AuditError(f"{report.output.get('path')}: {'; '.join(report.audit['faults'][:3])}; {kept}")

"""A job: one file into another, in segments, so that a crash, a kill or a power cut costs at most one of them.

The picture is encoded in segments of some seconds, each made durable together with the network's memory (`sink`,
`journal`). The same command run again goes on behind the last of them, with the same frames (`source`) and the same
memory (`memory`), and so makes the same bytes. When all are there they are joined without encoding again, and
interleaved with the source's other streams.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from gtasr_video.audit import Audit, AuditError
from gtasr_video.errors import InputError, MediaError, OutputError
from gtasr_video.media import Reader, Writer
from gtasr_video.media.audit import Expected, audit_file
from gtasr_video.media.durable import NO_SPACE, Space
from gtasr_video.media.encoding import Plan
from gtasr_video.media.segments import join
from gtasr_video.runtime.channels import Channel
from gtasr_video.runtime.job.journal import Journal, folder_for, help_with, open_journal, tidy
from gtasr_video.runtime.job.memory import copied
from gtasr_video.runtime.job.records import DoneSegments, PartJournal
from gtasr_video.runtime.job.settings import settings_of
from gtasr_video.runtime.job.sink import PartWriter
from gtasr_video.runtime.job.source import Cutting, Part, PartReader, fingerprint
from gtasr_video.runtime.job.workers import Helper, split, wait_for
from gtasr_video.runtime.progress import Mode, Monitor, showing
from gtasr_video.runtime.report import Report, combined
from gtasr_video.runtime.session import QUEUE, Session
from gtasr_video.runtime.upscaler import Upscaler

log = logging.getLogger("gtasr_video")
NOTICE = 25  # more than information, less than a warning


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done.

    open_writer      opens `output`, its unfinished file in the given folder; called once before any work, to learn what
                     cannot be, and once to join
    settings         all that the result depends on besides source, network and encoder, as plain JSON values
    restart          throw away what an earlier run has finished
    wait_for_space   where the disk is full, wait for room instead of failing
    workers          how many processes work on it, each of them started by `hire`, with its number; if there is one,
                     this process does the work itself
    """

    reader: Reader
    upscaler: Upscaler
    output: Path
    plan: Plan
    open_writer: Callable[[Path], Writer]
    settings: dict[str, Any]
    restart: bool = False
    wait_for_space: bool = False
    cutting: Cutting = field(default_factory=Cutting)
    workers: int = 1
    hire: Callable[[int], Helper] | None = None


def run_job(job: Job, *, progress: Mode = "none", announce: Callable[[Writer], None] = lambda _: None) -> Report:
    """Do `job`, or what is left of it, and report. `announce` is called with the writer before the work.

    Raises what `open_journal`, `run` and the writer raise; what is finished is then kept, and the error says so.
    """
    tidy(job.output)
    trial = job.open_writer(folder_for(job.output))
    try:
        announce(trial)
    finally:
        trial.abort()
    return _Run(job, fingerprint(job.reader.path)).run(trial, progress)


def help_job(job: Job) -> list[Report]:
    """Work on the parts of a job that another process leads, as long as there are some that nobody works on.

    Return a report of each.
    """
    journal, source = help_with(job.output, Space(job.output.parent, wait=job.wait_for_space))
    work, reports = _Run(job, source), []
    for part, of_part in zip(journal.parts, journal.journals, strict=True):
        lock = of_part.claim()
        if lock is not None:
            of_part.check()
            if not of_part.is_complete:
                reports.append(work.do(part, of_part, "none"))
            os.close(lock)
    return reports


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        log.warning("%s", line)


class _Run:
    def __init__(self, job: Job, source: dict[str, Any]) -> None:
        self._job, self._source = job, source
        self._space = Space(job.output.parent, wait=job.wait_for_space)
        self._read = 0  # frames that were read beyond those that are in segments; there should be none

    def run(self, trial: Writer, progress: Mode) -> Report:
        job, output = self._job, self._job.output
        settings = {**job.settings, **settings_of(job.upscaler, trial, job.cutting)}
        parts = split(job.reader, job.workers)
        journal = open_journal(output, self._source, settings, parts, self._space, restart=job.restart)
        try:
            resumed, played = journal.frames, journal.ticks
            if resumed:
                log.log(NOTICE, "%s: going on after %d frames that are done", output, resumed)
            report = self._work(journal, progress)
            job.reader.tell(journal.damage(), journal.end * job.reader.spec.time_base)
            # Before the audit: what is wrong with the source explains what it may find.
            _warn(job.reader.warnings())
            report = self._measured(report, journal.frames - resumed, journal.ticks - played)
            writer, audit = self._join(journal)
            _warn(writer.warnings())
            journal.remove()
        except BaseException as error:
            self._keep(journal, error)
            raise
        finally:
            journal.close()
        return _final(report, writer, audit, resumed)

    def _measured(self, report: Report, frames: int, ticks: int) -> Report:
        """Return `report` of making so many frames, which play so many ticks, with all that is known of the source."""
        reader = self._job.reader
        return replace(
            report,
            input=reader.facts(),
            corrupt_packets=reader.corrupt_packets,
            media_seconds=float(ticks * reader.spec.time_base),
            fps=frames / report.seconds if report.seconds > 0 else 0.0,
        )

    def _work(self, journal: Journal, progress: Mode) -> Report:
        """Do what is left of each part."""
        left = [of_part for of_part in journal.journals if not of_part.is_complete]
        hands = min(self._job.workers, len(left))
        if hands > 1 and self._job.hire is not None:
            return self._together(journal, hands, progress)
        parts = zip(journal.parts, journal.journals, strict=True)
        reports = [self.do(part, of_part, progress) for part, of_part in parts if not of_part.is_complete]
        return combined(reports or [self._nothing_left(journal)])

    def _nothing_left(self, journal: Journal) -> Report:
        return self.do(journal.parts[0], journal.journals[0], "none")

    def _together(self, journal: Journal, hands: int, progress: Mode) -> Report:
        """Let other processes do what is left, and watch them."""
        job, began, before, played = self._job, time.perf_counter(), journal.frames, journal.ticks
        assert job.hire is not None
        whole = job.reader.frame_count_estimate
        monitor = Monitor(None if whole is None else max(1, whole - before))
        monitor.decoded()

        def look() -> None:
            for of_part in journal.journals:
                of_part.reload()
            monitor.frames_out = journal.frames - before
            monitor.media_seconds = float((journal.ticks - played) * job.reader.spec.time_base)

        with showing(monitor, progress):
            reports = wait_for([job.hire(number) for number in range(hands)], look)
        if any(not of_part.is_complete for of_part in journal.journals):
            raise OutputError(f"{job.output}: a worker left its part undone; run the same command again")
        report = combined([report for of_helper in reports for report in of_helper])
        return replace(report, seconds=time.perf_counter() - began, device=f"{report.device} x{hands}")

    def do(self, part: Part, journal: PartJournal, progress: Mode) -> Report:
        """Do what is left of one part; where that is nothing, only report."""
        job, last, redone = self._job, journal.last, self._job.upscaler.redone
        source = PartReader(job.reader, part, None if last is None else last.next, job.cutting)
        origin = job.reader.origin_ticks
        check = partial(self._check_source, part)
        writer = PartWriter(source, job.upscaler, journal, job.output, job.plan, origin, self._space, check)
        monitor = Monitor(source.frame_count_estimate, source.duration)
        queues = Channel[Any](QUEUE, name="staged"), Channel[Any](QUEUE, name="pending")
        session = Session(source, job.upscaler, writer, monitor, *queues)
        session.work = writer
        session.scope.own(self._space)
        if journal.is_complete:
            return session.report()
        if (state := journal.state) is not None:
            job.upscaler.restore(copied(state, job.upscaler.device.torch_device))
        try:
            with showing(monitor, progress):
                report = session.run()
        finally:
            writer.abort()
        self._read += source.count - journal.frames
        return replace(report, frames_redone=report.frames_redone - redone)

    def _check_source(self, part: Part) -> None:
        """Raise InputError if the source is not what it was when the work began: what was read is worth nothing."""
        path = self._job.reader.path
        if part != Part() and not self._job.reader.is_plain:
            raise InputError(
                f"{path} has times that must be repaired, for which it has to be read from its beginning; "
                "use --workers 1 --restart",
                restart=True,
            )
        if fingerprint(path) != self._source:
            raise InputError(f"{path} changed while it was read; run again when it is what it was")

    def _join(self, journal: Journal) -> tuple[Writer, Audit]:
        """Make the output of the segments and look at it; a full disk is waited for, if that is wanted."""
        while True:
            try:
                with self._job.open_writer(journal.folder) as writer:
                    join(DoneSegments(journal.records), writer)
                    audit = writer.finish_if(lambda path: self._audit(path, writer, journal))
            except AuditError:
                journal.remove()  # what was made is kept, and would be made again
                raise
            except OutputError as error:
                if not _is_full(error) or not self._space.wait_for(self._bytes(journal)):
                    raise
            else:
                return writer, audit

    def _audit(self, path: Path, writer: Writer, journal: Journal) -> Audit:
        unit = writer.spec.time_base
        audit = audit_file(
            path,
            Expected(
                shown=(pts * unit for pts in journal.shown()),
                picture=writer.stream_index,
                sound=writer.sent("audio"),
                subtitles=len(writer.sent("subtitle")),
                sound_ends=writer.sound_ends(),
                shifts=writer.facts()["container"] == "mpegts",
            ),
        )
        if self._read:
            audit.faults.append(f"{self._read} frames were decoded but are in no segment")
        for pts in journal.spoiled():
            audit.faults.append(f"the frame at {float(pts * unit):.3f} s of the source lost its picture")
        audit.facts["frames_decoded"] = journal.frames + self._read
        return audit

    @staticmethod
    def _bytes(journal: Journal) -> int:
        return sum(record.with_suffix(".packets").stat().st_size for record in journal.records)

    def _keep(self, journal: Journal, error: BaseException) -> None:
        """Say what is kept, with the error or, on Ctrl-C, by itself; not where the error says that it is of no use."""
        frames = journal.frames
        if not frames or (isinstance(error, MediaError) and error.restart):
            return
        kept = f"{frames} frames are kept in {journal.folder}; the same command goes on from there"
        if isinstance(error, Exception):
            error.add_note(kept)
        else:
            log.log(NOTICE, "%s", kept)


def _final(report: Report, writer: Writer, audit: Audit, resumed: int) -> Report:
    """Return `report` with what the finished output says."""
    frames = writer.facts()["frames"]
    return replace(
        report,
        input={**report.input, "frames": frames},
        output=writer.facts(),
        frames_in=audit.facts["frames_decoded"],
        frames_out=audit.facts["frames"],
        frames_resumed=resumed,
        audit=audit.to_json(),
    )


def _is_full(error: BaseException) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in NO_SPACE

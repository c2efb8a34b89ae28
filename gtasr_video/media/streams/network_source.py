"""A stream of the network: through an ffmpeg program, watched from outside, and had again when it breaks off."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

from gtasr_video.errors import InputError, UsageError
from gtasr_video.media.streams.address import Address
from gtasr_video.media.streams.back_off import BackOff
from gtasr_video.media.streams.byteflow import Inflow
from gtasr_video.media.streams.child import UNTRUSTED, Child
from gtasr_video.media.streams.clock import StreamClock
from gtasr_video.media.streams.config import StreamConfig
from gtasr_video.media.streams.connection import Connection
from gtasr_video.media.streams.film import Film
from gtasr_video.media.streams.losses import RtpLosses, SegmentLosses, TsLosses
from gtasr_video.media.streams.network_graphs import source_graph
from gtasr_video.media.streams.repeats import Repeats
from gtasr_video.media.streams.stopwatch import Stopwatch

log = logging.getLogger("gtasr_video")

# A leap ahead by more is taken for a clock that was set, not for a pause.
_LEAP: Final = Fraction(10)
# Seconds of a stream that are looked at to find out what it holds.
_PROBE_S: Final = 1.5
# What ffmpeg says where nobody was reached; other failures are answers.
_UNREACHED: Final = (
    "refused",
    "timed out",
    "unreachable",
    "No route",
    "resolve",
    "reset by peer",
    "Input/output error",
    UNTRUSTED,
)
# What ffmpeg says of one who publishes under another name than it was told to wait for.
_WRONG_KEY: Final = ("Unexpected stream", "App field don't match")


class _NothingCameError(InputError):
    """A try that brought no stream; `there`: whether someone was reached who had nothing for us."""

    def __init__(self, reason: str, *, there: bool, ends: bool = True) -> None:
        super().__init__(reason)
        self.there, self.ends = there, ends


class NetworkSource:
    """The stream at `address`, or, where we listen, of the one who publishes to it.

    reconnects    how often the stream was had again, or a film gone on with
    refused       publishers turned away for a wrong key, or for sending too much
    lost          packets that did not arrive: of MPEG-TS over UDP or SRT, of RTP over UDP
    away_s        seconds without a connection, after the first
    lost_segments   segments of a list that could not be had
    ended         why there is no more: "end", "stopped", or "lost" if it could not be had again in time

    With ``on_end="stop"`` a stream has ended where it ends properly (one of HTTP without a length: with its last chunk,
    or where the connection is closed), or where its server is there and has had no more of it for as long as a
    connection may take to open; with "wait" it never has. A film behind http(s), whose server gives a length, is a
    file: it is gone on with from the byte reached where its server can do that, and else lost, and it ends once.

    Raises UsageError if nobody can be waited for at such an address, or it leads to a DASH list.
    """

    def __init__(self, address: Address, config: StreamConfig) -> None:
        self.address, self._config = address, config
        self.listening = config.listen or address.listening
        if self.listening and not address.scheme.listens:
            raise UsageError(f"nobody can be waited for at {address.name}:// addresses; use rtmp://, srt:// or tcp://")
        if address.is_web_file and address.path.lower().endswith(".mpd"):
            raise UsageError(f"{address}: DASH is not read; give the HLS list (.m3u8) of the stream")
        self.name = str(address)
        self.clock = StreamClock(anew=True, ahead=_LEAP)
        self.waits = Stopwatch()
        self._again = self.refused = 0
        self.away_s = 0.0
        self.ended = ""
        self.reason = ""
        self._stopped = threading.Event()
        self._child: Child | None = None
        self._inflow: Inflow | None = None
        self._bytes = 0
        self._ts, self._rtp = TsLosses(), RtpLosses()
        self._segments = SegmentLosses()
        self._repeats = Repeats() if address.is_playlist else None
        self._film = Film()

    def open(self) -> Connection:
        """Connect, or wait for a publisher. Raises InputError if there is no stream."""
        back_off, began = BackOff(), time.monotonic()
        if self.listening:
            log.warning("waiting for a publisher at %s", self.name)
        while True:
            try:
                return self._attempt(None if self.listening else self._config.open_timeout)
            except _NothingCameError as nothing:
                if self._stopped.is_set():
                    raise InputError(f"{self.name}: stopped before anything came") from nothing
                if not self._waits_on(nothing, time.monotonic() - began):
                    raise InputError(f"{self.name}: {nothing}") from nothing
                log.warning("%s: %s; trying again", self.name, nothing)
            self._stopped.wait(back_off.next_s())

    def _waits_on(self, nothing: _NothingCameError, waited_s: float) -> bool:
        """Return whether to try once more for a first time: an RTMP server may be there before its publisher is."""
        if self._config.on_end == "wait" or not nothing.ends:
            return True
        return self.address.scheme.keyed and nothing.there and waited_s < self._config.open_timeout

    def _attempt(self, first_s: float | None) -> Connection:
        """Connect once. Raises _NothingCameError."""
        graph = source_graph(self.address, self._config, listen=self.listening)
        web = self.address.is_web_file
        self._film = Film(self._say_that_it_goes_on)
        child = Child(
            graph,
            self.address,
            reads=False,
            ca_file=self._config.ca_file,
            on_line=self._film.feed if web else self._segments.feed if self.address.is_playlist else self._rtp.feed,
            # What a server says of its file is told at this level alone.
            level="trace" if web else "warning",
        )
        inflow = Inflow(
            child.fd,
            first_s=first_s,
            idle_s=self._config.read_timeout,
            most=self._config.max_bitrate / 8 if self.listening else None,
            waits=self.waits,
            heed=self._losses_in(child),
        )
        self._bytes += self._inflow.total if self._inflow is not None else 0
        self._child, self._inflow = child, inflow
        if self._stopped.is_set():
            inflow.stop()
        try:
            return self._connected(child, inflow)
        except BaseException:
            inflow.close()
            child.end()
            raise

    def _say_that_it_goes_on(self, byte: int) -> None:
        log.warning("%s: the connection broke off at byte %d; going on from there", self.name, byte)

    def _losses_in(self, child: Child) -> Callable[[bytes], object] | None:
        """Return what finds the losses of a new connection in what comes; None where none can be."""
        if self.address.name in ("udp", "srt"):
            self._ts.restart()
            return self._ts.feed
        # What the program says has to be taken in now and then, or there is no room for more.
        talks = self.address.is_remuxed or self.address.is_web_file
        return (lambda _: child.heard()) if talks else None

    @property
    def reconnects(self) -> int:
        """How often the stream was had again."""
        return self._again + self._film.resumed

    @property
    def lost(self) -> int:
        """Packets that did not arrive, so far."""
        return self._ts.lost + self._rtp.lost

    @property
    def lost_segments(self) -> int:
        """Segments of a list that could not be had, so far."""
        return self._segments.lost

    @property
    def can_wait(self) -> bool:
        """Whether there is a film behind the address; a live stream goes on without us."""
        return self._film.length is not None

    def _connected(self, child: Child, inflow: Inflow) -> Connection:
        if not inflow.begins():
            raise _NothingCameError(child.reason() or f"nothing came ({inflow.ended})", there=child.code is None)
        child.hide()
        told = child.heard()
        if self.can_wait:
            # The program goes on with a film by itself.
            inflow.idle_s = self._config.give_up
        if any(mark in line for line in told for mark in _WRONG_KEY):
            self.refused += 1
            raise _NothingCameError("a publisher with a wrong key was turned away", there=True, ends=False)
        try:
            demuxer = "nut" if self.address.is_remuxed else self.address.scheme.demuxer
            pixels = self._config.max_pixels
            if self._repeats is not None:
                self._repeats.restart()
            connection = Connection(
                inflow, self.name, demuxer, seconds=_PROBE_S, max_pixels=pixels, repeats=self._repeats
            )
        except InputError as error:
            child.wait(1)
            self.refused += self.listening and (inflow.ended == "too fast" or "larger than allowed" in str(error))
            reason = child.reason() if inflow.total == 0 else str(error).removeprefix(f"{self.name}: ")
            there = not any(mark in reason for mark in _UNREACHED)
            raise _NothingCameError(reason or "nothing came", there=there, ends=not self.listening) from error
        if self._repeats is not None and not connection.has_news():
            connection.close()
            raise _NothingCameError("its list names nothing new", there=True)
        return connection

    def again(self) -> Connection | None:
        """Connect once more after the stream broke off; None if that was its end."""
        clean = self._let_go()
        if self._stopped.is_set() or (clean and self._config.on_end == "stop" and not self.listening):
            self.ended = "stopped" if self._stopped.is_set() else "end"
            return None
        if self.can_wait:
            self._end_film(whole=clean)
            return None
        log.warning("%s: the stream broke off (%s); trying again", self.name, self.reason or "no reason given")
        began = time.monotonic()
        connection = self._retry(began)
        self.away_s += time.monotonic() - began
        if connection is not None:
            self._again += 1
            log.warning("%s: the stream is back after %.1f s", self.name, time.monotonic() - began)
        return connection

    def _let_go(self) -> bool:
        """End the program of a connection that is over, and return whether it came to a proper end."""
        child, inflow = self._child, self._inflow
        assert child is not None and inflow is not None
        code = child.wait(1) if inflow.ended == "end" else None
        self.reason = child.reason() if inflow.ended == "end" else inflow.ended
        child.end()
        if inflow.ended == "too fast":
            self.refused += 1
            self.reason = f"more than {self._config.max_bitrate / 1e6:g} Mbit/s"
        # Where there is no length FFmpeg says that a reply broke off which has ended, and the other way round.
        if inflow.ended == "end" and self._film.over:
            self.reason = ""
            return True
        if inflow.ended == "end" and self._film.cut:
            self.reason = self.reason or "before its last chunk"
        return inflow.ended == "end" and code == 0 and not self.reason

    def _end_film(self, *, whole: bool) -> None:
        """Say whether all of it came; formats that know their end leave what follows it unread."""
        inflow, length = self._inflow, self._film.length
        assert inflow is not None and length is not None
        if whole or inflow.total >= length or not inflow.ended:
            self.ended, self.reason = "end", ""
        else:
            self.ended, self.reason = "lost", f"it broke off at byte {inflow.total} of {length}"

    def _retry(self, since: float) -> Connection | None:
        """Try until the stream is back, has ended, or has been away for too long."""
        back_off, config = BackOff(), self._config
        while not self._pause(back_off):
            try:
                return self._attempt(config.read_timeout if self.listening else config.open_timeout)
            except _NothingCameError as nothing:
                self.reason = str(nothing)
                away = time.monotonic() - since
                if config.on_end == "wait" or not nothing.ends or self._stopped.is_set():
                    continue
                if away > (config.open_timeout if nothing.there else config.give_up):
                    self.ended = "end" if nothing.there else "lost"
                    return None
        self.ended = "stopped"
        return None

    def _pause(self, back_off: BackOff) -> bool:
        """Wait before another try, and return whether the stream was ended meanwhile."""
        with self.waits.running():
            return self._stopped.wait(back_off.next_s())

    def stop(self) -> None:
        """End the stream now, from any thread."""
        self._stopped.set()
        if self._inflow is not None:
            self._inflow.stop()

    def close(self) -> None:
        """End the program and whatever waits for it."""
        self.stop()
        if self._child is not None:
            self._child.end()

    def facts(self) -> dict[str, Any]:
        """Return how the connection went so far."""
        return {
            "bytes": self._bytes + (self._inflow.total if self._inflow is not None else 0),
            "reconnects": self.reconnects,
            "lost_packets": self.lost,
            "refused": self.refused,
            "away_s": round(self.away_s, 3),
            "ended": self.ended,
            "ended_because": self.reason,
        }

"""Receivers over the network, any number of them: encoded and packed once, sent to each at its own pace."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from gtasr_video.errors import OutputError
from gtasr_video.frames import Vitals
from gtasr_video.media.codecs import Container
from gtasr_video.media.streams.receivers import Receiver
from gtasr_video.media.streams.send_queue import Chunk
from gtasr_video.media.streams.sender import Sender

# A stream that a receiver can join at each key picture: tables come again there, and each packet is on its way at once.
_OPTIONS: Final = {"pes_payload_size": "0", "muxdelay": "0", "muxpreload": "0", "mpegts_copyts": "1"}


class NetworkOutlet:
    """Packs what is written as MPEG-TS, and gives each packet to all of `receivers` without waiting for those far off.

    can_wait    whether the source can be made to wait: a list on this machine then gets every picture, however fast
                they come
    patience_s  if no receiver has been reached after so many seconds, the output has failed; None: never
    """

    closed = False

    def __init__(self, receivers: Sequence[Receiver], *, patience_s: float | None, can_wait: bool = False) -> None:
        codecs = min((receiver.codecs for receiver in receivers), key=len)
        self.form = Container("mpegts", codecs, options=_OPTIONS)
        self.name = ", ".join(receiver.name for receiver in receivers)
        self.sound_taken = frozenset.intersection(*(receiver.sound for receiver in receivers))
        self.needs_sound = any(receiver.needs_sound for receiver in receivers)
        self._receivers, self._patience_s, self._can_wait = receivers, patience_s, can_wait
        self._senders: list[Sender] = []
        self._parts: list[bytes] = []
        self._began = time.monotonic()
        self._last = 0.0
        self._has_begun = False

    def open(self) -> NetworkOutlet:
        """Return what takes the bytes; a program is started when there is something to send."""
        self._senders = [
            Sender(one.name, one.start, files=one.files, waits=one.files is not None and self._can_wait)
            for one in self._receivers
        ]
        return self

    def write(self, data: bytes) -> int:
        """Take the next bytes of a packet."""
        self._parts.append(data)
        return len(data)

    def sent(self, seconds: float, *, key: bool, pictures: int) -> None:
        """Pass on the packet whose bytes have come.

        Raises OutputError if nobody was ever reached, or if what could wait is in vain, as no list can be written.
        """
        if key and not self._has_begun:
            self._begin()
        chunk = Chunk(b"".join(self._parts), key, pictures, seconds)
        self._parts.clear()
        self._last = seconds
        for sender in self._senders:
            sender.queue.put(chunk)
        if self._can_wait and all(sender.fault for sender in self._senders):
            raise OutputError(self._faults())
        waited = time.monotonic() - self._began
        if self._patience_s and waited > self._patience_s:
            self._check_reached(f"for {self._patience_s:g} s")

    def _begin(self) -> None:
        """Let new lists take the place of old ones; not sooner, as a run may be refused until its first picture."""
        for receiver in self._receivers:
            if receiver.files is not None:
                receiver.files.begin()
        self._has_begun = True

    def _check_reached(self, when: str) -> None:
        if not any(sender.was_connected for sender in self._senders):
            reasons = "; ".join(f"{s.name}: {s.reason or 'no answer'}" for s in self._senders)
            raise OutputError(f"nobody could be reached {when} ({reasons})")

    def commit(self) -> None:
        """Send what waits, and end the programs.

        Raises OutputError if nobody was ever reached, or is there at the end, if nothing whole has come of it, or,
        where it could wait, if a list is not whole.
        """
        if self._parts:  # the muxer holds a packet or two until it is closed
            self.sent(self._last, key=False, pictures=0)
        for sender in self._senders:
            sender.queue.end()
        for sender in self._senders:
            sender.finish()
        self._check_reached("before the stream ended")
        if (self._can_wait and self._faults()) or all(sender.fault for sender in self._senders):
            raise OutputError(self._faults())
        if not any(sender.connected for sender in self._senders):
            lost = "; ".join(f"{s.name}: {s.reason or 'the connection ended'}" for s in self._senders)
            raise OutputError(f"nobody was there any more when the stream ended ({lost}); the last of it is missing")

    def _faults(self) -> str:
        """Return what is wrong with lists, and what happened to those that should have been given everything."""
        told = "; ".join(f"{sender.name}: {sender.loss}" for sender in self._senders if sender.loss)
        return told and f"{told}; the list is not whole, mend that and start again with -y"

    def warnings(self) -> Iterator[str]:
        """Yield one line for each receiver that was not there at the end."""
        for sender in self._senders:
            if not sender.connected:
                what = "lost before the stream ended" if sender.was_connected else "never reached"
                yield f"{sender.name}: {what} ({sender.reason or 'no answer'})"

    def hurry(self) -> None:
        """Do nothing: each receiver is waited for only so long in any case."""

    def stop(self) -> None:
        """End the programs now."""
        self.discard()

    def discard(self) -> None:
        """End the programs now."""
        for sender in self._senders:
            sender.stop()

    def error(self, error: Exception, what: str) -> OutputError:
        """Return `error` as one line."""
        return OutputError(f"{self.name}: {what} ({getattr(error, 'strerror', None) or error})")

    def vitals(self) -> Vitals:
        """Return what the receivers have cost so far, and what waits for each."""
        return Vitals(
            reconnects=sum(sender.reconnects for sender in self._senders),
            dropped=sum(sender.queue.dropped for sender in self._senders),
            queues={f"output {number}": len(sender.queue) for number, sender in enumerate(self._senders, 1)},
        )

    def facts(self) -> dict[str, Any]:
        """Return how it went with each receiver so far."""
        return {"outputs": [sender.facts() for sender in self._senders]}

"""Handing work from thread to thread: `Channel`, and `Scope`, which owns the threads and channels of one run.

A channel has one producer and one consumer, so order needs no reorder buffer. It is bounded, so a slow
consumer holds back its producer and memory stays a formula. A scope ends as a whole: the first error stops
every channel, every thread is joined, and that error is raised to the caller.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, Literal, Protocol, TypeVar

T = TypeVar("T")
C = TypeVar("C", bound="Stoppable")

WhenFull = Literal["wait", "drop_oldest"]


class Stoppable(Protocol):
    """What a scope can own: something that someone may be waiting on."""

    def stop(self) -> None:
        """Let whoever waits give up; from any thread, any number of times."""


class Stopped(Exception):  # noqa: N818 - not a failure but the news of one elsewhere
    """The scope ended while this thread waited or worked; never shown to a user."""


class Closed(Exception):  # noqa: N818 - the ordinary end of a channel
    """Nothing more will come out of this channel."""


class _Waiters:
    """Threads waiting for a change, each on a lock of its own; all methods are called with the owner's lock held.

    Not threading.Condition: it waits, and is entered, in Python code in which a Ctrl-C can strike between taking
    a lock and the block that gives it back, and then no one ever gets it again. Here a thread takes a ticket
    under the owner's lock and waits on it OUTSIDE; wherever the interrupt falls, no lock stays taken.
    """

    def __init__(self) -> None:
        self._tickets: list[threading.Lock] = []

    def __bool__(self) -> bool:
        return bool(self._tickets)

    def ticket(self) -> threading.Lock:
        """Return a lock whose next `acquire` waits for the next `wake`."""
        ticket = threading.Lock()
        ticket.acquire()
        self._tickets.append(ticket)
        return ticket

    @staticmethod
    def wait(ticket: threading.Lock, timeout_s: float = math.inf) -> None:
        """Wait for the `wake` after `ticket` was taken; called without the owner's lock.

        Looks up every half second: a signal that comes just before a thread goes to sleep does not wake it, and
        Python would learn of the Ctrl-C only with the next frame.
        """
        deadline = time.monotonic() + timeout_s
        while not ticket.acquire(timeout=min(0.5, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                return

    def wake(self) -> None:
        """Let everyone who waits look again."""
        tickets, self._tickets = self._tickets, []
        for ticket in tickets:
            ticket.release()


class Channel(Generic[T]):
    """A bounded, ordered hand-over between two threads; it holds at most `capacity` items.

    `when_full` says what `put` does at capacity: ``wait`` (nothing is lost) or ``drop_oldest`` (never waits;
    the oldest item leaves, is counted in `dropped` and given to `on_drop`, on the putting thread).
    After `stop` every call, also one that waits, raises `Stopped` at once.
    """

    def __init__(
        self,
        capacity: int,
        *,
        name: str = "channel",
        when_full: WhenFull = "wait",
        on_drop: Callable[[T], None] | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"{name}: capacity must be at least 1, not {capacity}")
        self.name = name
        self.capacity = capacity
        self.dropped = 0
        self._when_full = when_full
        self._on_drop = on_drop
        self._items: deque[T] = deque()
        self._closed = False
        self._stopped = False
        self._lock = threading.Lock()
        self._waiters = _Waiters()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Add `item` at the end. Raises Stopped, or RuntimeError after `close` (a bug in the caller)."""
        while True:
            with self._lock:
                self._check_open()
                if not self._full or self._when_full == "drop_oldest":
                    dropped = [self._items.popleft()] if self._full else []
                    self._items.append(item)
                    self._waiters.wake()
                    break
                ticket = self._waiters.ticket()
            self._waiters.wait(ticket)
        self.dropped += len(dropped)
        if dropped and self._on_drop is not None:
            self._on_drop(dropped[0])

    def get(self) -> T:
        """Take the first item, waiting for one. Raises Closed at the end, Stopped after a stop."""
        while True:
            with self._lock:
                if self._stopped:
                    raise Stopped
                if self._items:
                    self._waiters.wake()
                    return self._items.popleft()
                if self._closed:
                    raise Closed
                ticket = self._waiters.ticket()
            self._waiters.wait(ticket)

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                item = self.get()
            except Closed:
                return
            yield item
            # Without this the frame just handled would live on, beside the queue, until the next one comes.
            del item

    def close(self) -> None:
        """Say that nothing more will be put; what is inside can still be taken. May be called again."""
        with self._lock:
            self._closed = True
            self._waiters.wake()

    def stop(self) -> None:
        """Wake everyone with `Stopped` and let go of what is inside. May be called again."""
        with self._lock:
            self._stopped = True
            self._items.clear()
            self._waiters.wake()

    @property
    def _full(self) -> bool:
        return len(self._items) >= self.capacity

    def _check_open(self) -> None:
        if self._stopped:
            raise Stopped
        if self._closed:
            raise RuntimeError(f"{self.name}: put after close")


class Scope:
    """Owns the threads and channels of one run; use it as a context manager.

    Leaving the block normally waits for all threads. The first error, in a thread or in the block, stops
    all channels; all threads are joined, and that error is raised. KeyboardInterrupt lands in the block
    (the calling thread) and ends the run the same way; it wins over an earlier error. A thread stuck in
    foreign code is given `grace_s` seconds after a stop, then left behind as a daemon and named in a note.
    """

    def __init__(self, *, grace_s: float = 10.0) -> None:
        self._grace_s = grace_s
        self._lock = threading.Lock()
        self._waiters = _Waiters()
        self._channels: list[Stoppable] = []
        self._threads: dict[str, threading.Thread] = {}
        self._begun: set[str] = set()
        self._running: set[str] = set()  # begun or about to, and not ended
        self._error: BaseException | None = None
        self._stopped = self._left = False

    def own(self, channel: C) -> C:
        """Stop `channel` when this scope stops; returns it."""
        with self._lock:
            self._channels.append(channel)
            stopped = self._stopped
        if stopped:
            channel.stop()
        return channel

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Run `work` in a thread of this scope."""
        thread = threading.Thread(target=self._run, args=(name, work), name=name, daemon=True)
        with self._lock:
            if name in self._threads:
                raise ValueError(f"a thread named '{name}' already runs in this scope")
            self._threads[name] = thread
            self._running.add(name)
        try:
            thread.start()
        except BaseException:
            # Refused or interrupted: a thread that has not begun by now must not begin later, unseen.
            with self._lock:
                if name not in self._begun:
                    self._running.discard(name)
            raise

    def stop(self, error: BaseException | None = None) -> None:
        """End the run; the first `error` given is the one that will be raised."""
        with self._lock:
            if self._error is None and error is not None:
                self._error = error
            self._stopped = True
            self._waiters.wake()
            channels = list(self._channels)
        for channel in channels:
            channel.stop()

    @property
    def stopped(self) -> bool:
        """True once the run is ending early."""
        return self._stopped

    def close(self) -> None:
        """End the run and wait for its threads; does nothing where leaving the block has done so.

        For a ``finally`` around the block: a Ctrl-C can strike at the very entrance of `__exit__`, and end it there.
        """
        if self._running and not self._left:
            self.stop()
            self._join()

    def _run(self, name: str, work: Callable[[], None]) -> None:
        with self._lock:
            if name not in self._running:
                return
            self._begun.add(name)
        try:
            work()
        except Stopped:
            pass
        except BaseException as error:
            self.stop(error)
        finally:
            with self._lock:
                self._running.discard(name)
                self._waiters.wake()

    def __enter__(self) -> Scope:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is not None:
            self.stop(None if isinstance(error, Stopped) else error)
        interrupt = self._join()
        self._left = True
        if isinstance(error, KeyboardInterrupt):
            interrupt = error
        first = interrupt or self._error
        if first is not None and self._running:
            first.add_note(f"still busy after {self._grace_s:g} s: {', '.join(sorted(self._running))}")
        if first is not None and first is not error:
            # `from None`: the caller's own error is only the echo of this one.
            raise first from None
        return isinstance(error, Stopped)

    def _join(self) -> KeyboardInterrupt | None:
        """Wait for all threads; a Ctrl-C meanwhile stops them, a second one gives up waiting."""
        try:
            self._wait()
        except KeyboardInterrupt as first:
            self.stop(first)
            with contextlib.suppress(KeyboardInterrupt):
                self._wait()
            return first
        finally:
            for name, thread in self._threads.items():
                if name in self._begun and name not in self._running:
                    thread.join()
        return None

    def _wait(self) -> None:
        # Not Thread.join: in Python 3.11 a Ctrl-C inside it marks a thread that still runs as ended.
        deadline = math.inf
        while (left := deadline - time.monotonic()) > 0:
            with self._lock:
                if not self._running:
                    return
                ticket = self._waiters.ticket()
                if self._stopped and deadline == math.inf:
                    deadline = time.monotonic() + self._grace_s
                    left = self._grace_s
            self._waiters.wait(ticket, left)

"""SIGTERM, SIGHUP and Ctrl-C as a wish to end well."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@contextmanager
def ending_well(end: Callable[[], None]) -> Iterator[None]:
    """While the block runs, let the first such signal call `end`, in a thread of its own; the next acts as before.

    Signals that are ignored stay ignored. Does nothing outside the main thread, which alone hears of signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # The handler may strike while this thread holds any lock; this queue is the one thing that is safe to use there.
    wishes: SimpleQueue[bool] = SimpleQueue()
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def wish(number: int, frame: FrameType | None) -> None:
        restore()
        wishes.put(True)

    def wait() -> None:
        if wishes.get():
            end()

    thread = threading.Thread(target=wait, name="ending", daemon=True)
    thread.start()
    try:
        for number in _SIGNALS:
            if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None):
                before[number] = handler
                signal.signal(number, wish)
        yield
    finally:
        restore()
        wishes.put(False)
        thread.join()

"""Channels keep order and bounds and wake at once; a scope ends as a whole and tells the first error."""

from __future__ import annotations

import random
import signal
import threading
import time
import weakref

import pytest

from gtasr_video.runtime.channels import Channel, Closed, Scope, Stopped


def blocked(channel: Channel) -> None:
    """Return once a thread waits inside `channel`: the only honest way to test that something blocks."""
    while not channel._waiters:
        pass


def ctrl_c() -> None:
    """Deliver a real SIGINT to the main thread; _thread.interrupt_main would not wake it from a wait."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


@pytest.mark.parametrize("capacity", [1, 2, 7])
def test_order_is_kept_and_the_bound_holds(capacity: int) -> None:
    channel: Channel[int] = Channel(capacity)
    depths: list[int] = []
    with Scope() as scope:
        scope.own(channel)

        def produce() -> None:
            for i in range(500):
                channel.put(i)
                depths.append(len(channel))
            channel.close()

        scope.start("produce", produce)
        got = list(channel)
    assert got == list(range(500))
    assert max(depths) <= capacity


def test_put_waits_until_there_is_room() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(0)
    with Scope() as scope:
        scope.own(channel)
        scope.start("produce", lambda: channel.put(1))
        blocked(channel)
        assert channel.get() == 0
        assert channel.get() == 1


def test_close_lets_the_rest_out_and_ends_iteration() -> None:
    channel: Channel[int] = Channel(3)
    channel.put(1)
    channel.put(2)
    channel.close()
    channel.close()
    assert list(channel) == [1, 2]
    with pytest.raises(Closed):
        channel.get()
    with pytest.raises(RuntimeError, match="put after close"):
        channel.put(3)


def test_drop_oldest_never_waits_counts_and_hands_over_what_it_drops() -> None:
    dropped: list[int] = []
    channel: Channel[int] = Channel(2, when_full="drop_oldest", on_drop=dropped.append)
    for i in range(5):
        channel.put(i)
    channel.close()
    assert list(channel) == [3, 4]
    assert dropped == [0, 1, 2]
    assert channel.dropped == 3


def test_a_slot_freed_while_dropping_may_be_put_into_the_same_scope() -> None:
    ring: Channel[int] = Channel(2)
    staged: Channel[int] = Channel(1, when_full="drop_oldest", on_drop=ring.put)
    staged.put(0)
    staged.put(1)
    assert ring.get() == 0


@pytest.mark.parametrize("side", ["put", "get"])
def test_stop_wakes_a_waiting_thread_at_once(side: str) -> None:
    channel: Channel[int] = Channel(1)
    if side == "put":
        channel.put(0)
    woken = threading.Event()

    def wait() -> None:
        try:
            channel.put(1) if side == "put" else channel.get()
        except Stopped:
            woken.set()
            raise

    with Scope() as scope:
        scope.own(channel)
        scope.start("wait", wait)
        blocked(channel)
        scope.stop()
    assert woken.is_set()


def test_stop_lets_go_of_what_is_inside() -> None:
    class Item:
        pass

    item = Item()
    alive = weakref.ref(item)
    channel: Channel[Item] = Channel(1)
    channel.put(item)
    del item
    channel.stop()
    assert alive() is None


def test_the_item_just_handled_is_not_kept_by_the_iterator() -> None:
    class Item:
        pass

    channel: Channel[Item] = Channel(1)
    item = Item()
    alive = weakref.ref(item)
    channel.put(item)
    del item
    with Scope() as scope:
        scope.own(channel)

        def consume() -> None:
            for taken in channel:
                del taken

        scope.start("consume", consume)
        blocked(channel)
        assert alive() is None
        channel.close()


def test_an_error_in_a_thread_stops_the_others_and_is_raised() -> None:
    channel: Channel[int] = Channel(1)
    stopped = []

    def fail() -> None:
        raise ValueError("broken")

    def wait() -> None:
        try:
            channel.get()
        except Stopped:
            stopped.append("wait")
            raise

    with pytest.raises(ValueError, match="broken"), Scope() as scope:
        scope.own(channel)
        scope.start("wait", wait)
        blocked(channel)
        scope.start("fail", fail)
    assert stopped == ["wait"]
    assert not [t for t in threading.enumerate() if t.name in ("wait", "fail")]


def test_the_first_error_wins_and_the_echo_is_not_shown() -> None:
    channel: Channel[int] = Channel(1)

    def fail() -> None:
        raise ValueError("first")

    with pytest.raises(ValueError, match="first") as caught, Scope() as scope:
        scope.own(channel)
        scope.start("fail", fail)
        channel.get()
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_second_error_does_not_replace_the_first() -> None:
    gate = threading.Event()

    def late() -> None:
        gate.wait()
        raise ValueError("second")

    with pytest.raises(KeyError), Scope() as scope:
        scope.start("late", late)
        scope.stop(KeyError("first"))
        gate.set()


def test_an_error_in_the_block_stops_the_threads_and_keeps_its_notes() -> None:
    channel: Channel[int] = Channel(1)
    with pytest.raises(ValueError, match="mine") as caught, Scope() as scope:
        scope.own(channel)
        scope.start("wait", lambda: channel.put(channel.get()))
        error = ValueError("mine")
        error.add_note("while upscaling frame 3")
        raise error
    assert caught.value.__notes__ == ["while upscaling frame 3"]


def test_ctrl_c_in_the_block_ends_all_and_wins() -> None:
    channel: Channel[int] = Channel(1)

    def interrupt() -> None:
        blocked(channel)
        ctrl_c()

    with pytest.raises(KeyboardInterrupt), Scope() as scope:
        scope.own(channel)
        scope.start("interrupt", interrupt)
        channel.get()
    assert not [t for t in threading.enumerate() if t.name == "interrupt"]


def test_ctrl_c_while_joining_ends_the_threads() -> None:
    channel: Channel[int] = Channel(1)
    with pytest.raises(KeyboardInterrupt), Scope() as scope:
        scope.own(channel)
        scope.start("wait", lambda: channel.put(channel.get()))

        def interrupt() -> None:
            while not scope._waiters:
                pass
            ctrl_c()

        scope.start("interrupt", interrupt)
    assert not [t for t in threading.enumerate() if t.name in ("wait", "interrupt")]


def test_a_thread_stuck_in_foreign_code_is_left_behind_and_named() -> None:
    release = threading.Event()
    with pytest.raises(ValueError, match="broken") as caught, Scope(grace_s=0.01) as scope:
        scope.start("stuck", release.wait)
        raise ValueError("broken")
    release.set()
    assert any("stuck" in note for note in caught.value.__notes__)


def test_a_quiet_stop_ends_without_an_error() -> None:
    channel: Channel[int] = Channel(1)
    with Scope() as scope:
        scope.own(channel)
        scope.start("stop", scope.stop)
        channel.get()


def test_a_channel_owned_after_the_stop_is_stopped_too() -> None:
    with Scope() as scope:
        scope.stop()
        channel: Channel[int] = scope.own(Channel(1))
        with pytest.raises(Stopped):
            channel.get()


def test_capacity_and_names_are_checked() -> None:
    with pytest.raises(ValueError, match="capacity"):
        Channel(0, name="staged")
    with Scope() as scope:
        scope.start("once", lambda: None)
        with pytest.raises(ValueError, match="once"):
            scope.start("once", lambda: None)


def test_ctrl_c_at_any_moment_neither_hangs_nor_leaves_a_thread() -> None:
    """A SIGINT after a random number of hand-overs; most strike within a channel, some within the scope's own end."""
    chance = random.Random(0)
    for _ in range(60):
        channel: Channel[int] = Channel(2)
        scope = Scope()
        left = chance.randrange(1, 40)

        def produce(channel: Channel[int] = channel, left: int = left) -> None:
            for i in range(1000):
                if i == left:
                    ctrl_c()
                channel.put(i)
            channel.close()

        with pytest.raises(KeyboardInterrupt):
            try:
                with scope:
                    scope.own(channel)
                    scope.start("produce", produce)
                    for _ in channel:
                        pass
            finally:
                scope.close()
        assert not [t for t in threading.enumerate() if t.name == "produce" and t.is_alive()]


def test_who_is_stuck_is_waited_for_once() -> None:
    release = threading.Event()
    scope = Scope(grace_s=0.5)
    began = time.monotonic()
    try:
        with pytest.raises(ValueError, match="broken"), scope:
            scope.start("stuck", release.wait)
            raise ValueError("broken")
    finally:
        scope.close()
    assert 0.5 <= time.monotonic() - began < 0.95
    release.set()

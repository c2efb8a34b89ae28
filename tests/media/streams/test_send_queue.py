"""What waits for a receiver: all of it comes in order, or it is given up as a whole up to a key picture."""

from __future__ import annotations

import threading

import pytest

from gtasr_video.media.streams import send_queue
from gtasr_video.media.streams.send_queue import Chunk, SendQueue


def chunk(number: int, *, key: bool | None = None, size: int = 10) -> Chunk:
    """Return picture `number` of 25 a second, every tenth a key picture."""
    return Chunk(bytes([number % 256]) * size, number % 10 == 0 if key is None else key, 1, number / 25)


def numbers(queue: SendQueue) -> list[int]:
    queue.end()
    found = []
    while (one := queue.get(0)) is not None:
        found.append(round(one.time * 25))
    return found


def test_nothing_is_lost_while_the_receiver_keeps_up() -> None:
    queue = SendQueue()
    for number in range(90):
        queue.put(chunk(number))
    assert numbers(queue) == list(range(90))
    assert queue.dropped == 0
    assert queue.ended


def test_it_begins_at_a_key_picture() -> None:
    queue = SendQueue()
    for number in range(5, 25):
        queue.put(chunk(number))
    assert numbers(queue) == list(range(10, 25))
    assert queue.dropped == 5


def test_too_late_gives_up_all_that_waits_up_to_the_next_key_picture() -> None:
    queue = SendQueue()
    late = round(send_queue.MOST_SECONDS * 25) + 6
    for number in range(late + 20):
        queue.put(chunk(number))
    got = numbers(queue)
    assert got[0] % 10 == 0
    assert got == list(range(got[0], late + 20))
    assert queue.dropped == got[0]


def test_too_large_gives_up_too() -> None:
    queue = SendQueue()
    for number in range(3):
        queue.put(chunk(10 * number, size=send_queue.MOST_BYTES // 2 + 1))
    assert numbers(queue) == [20]
    assert queue.dropped == 2


def test_sound_alone_is_not_counted_and_does_not_begin() -> None:
    queue = SendQueue()
    queue.put(Chunk(b"sound", False, 0, 0.0))
    assert queue.dropped == 0
    assert numbers(queue) == []


def test_a_new_receiver_begins_at_the_last_key_picture() -> None:
    queue = SendQueue()
    for number in range(25):
        queue.put(chunk(number))
    queue.restart()
    assert numbers(queue) == list(range(20, 25))
    assert queue.dropped == 20
    queue = SendQueue()
    queue.put(chunk(0))
    queue.get(0)
    queue.put(chunk(1))
    queue.restart()
    queue.put(chunk(2))
    assert numbers(queue) == []
    assert queue.dropped == 2


def test_who_waits_is_woken_by_the_end() -> None:
    queue = SendQueue()
    got: list[Chunk | None] = []
    thread = threading.Thread(target=lambda: got.append(queue.get(60)))
    thread.start()
    queue.put(chunk(0))
    queue.end(empty=True)
    thread.join(60)
    assert len(got) == 1
    assert queue.get(60) is None


def slow_reader(queue: SendQueue, got: list[int]) -> threading.Thread:
    """Start a thread that takes all chunks, beginning a while after the writer."""

    def take() -> None:
        threading.Event().wait(0.2)
        while (one := queue.get(60)) is not None:
            got.append(round(one.time * 25))

    thread = threading.Thread(target=take)
    thread.start()
    return thread


@pytest.mark.parametrize("size", [10, send_queue.MOST_BYTES // 3, send_queue.MOST_BYTES + 1])
def test_who_can_wait_waits_and_nothing_is_lost(size: int) -> None:
    queue = SendQueue(waits=True)
    got: list[int] = []
    thread = slow_reader(queue, got)
    count = round(send_queue.MOST_SECONDS * 25) * 3 if size == 10 else 9
    data = bytes(size)
    for number in range(count):
        queue.put(Chunk(data, number % 10 == 0, 1, number / 25))
    queue.end()
    thread.join(60)
    assert got == list(range(count))
    assert queue.dropped == 0


@pytest.mark.parametrize("way", ["end", "restart"])
def test_who_waits_for_room_is_let_go_when_the_receiver_fails(way: str) -> None:
    queue = SendQueue(waits=True)
    late = round(send_queue.MOST_SECONDS * 25)
    for number in range(late + 1):
        queue.put(chunk(number))
    thread = threading.Thread(target=queue.put, args=[chunk(late + 1)])
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    queue.end(empty=True) if way == "end" else queue.restart()
    thread.join(60)
    assert not thread.is_alive()

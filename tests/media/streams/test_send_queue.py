"""What waits for a receiver: all of it comes in order, or it is given up as a whole up to a key picture."""

from __future__ import annotations

import threading

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

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from gtasr_video.media.streams.losses import RtpLosses, SegmentLosses, TsLosses
from tests import clips

SIZE = 188


@pytest.fixture(scope="module")
def packets(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Some hundred packets of a real MPEG-TS with picture and sound."""
    path = tmp_path_factory.mktemp("ts") / "clip.ts"
    clips.make_clip(path, frames=25, bframes=0, time_base=Fraction(1, 90000), sound=[clips.Sound()])
    data = path.read_bytes()
    return [data[at : at + SIZE] for at in range(0, len(data), SIZE)]


def lost_in(data: bytes, piece: int = 1316) -> int:
    losses = TsLosses()
    for at in range(0, len(data), piece):
        losses.feed(data[at : at + piece])
    return losses.lost


@pytest.mark.parametrize("piece", [1, 187, 1316, 1 << 20])
def test_lost_packets_are_counted_however_the_rest_comes(packets: list[bytes], piece: int) -> None:
    assert len(packets) > 100
    assert lost_in(b"".join(packets), piece) == 0
    chance = random.Random(1)
    # The first and last of a kind have no neighbour that would show they are missing.
    missing = {at for at in range(20, len(packets) - 20) if has_payload(packets[at]) and chance.random() < 0.1}
    assert lost_in(b"".join(p for at, p in enumerate(packets) if at not in missing), piece) == len(missing) > 5


def has_payload(packet: bytes) -> bool:
    return bool(packet[3] & 0x10)


def test_what_is_no_loss(packets: list[bytes]) -> None:
    twice = [p for packet in packets for p in (packet, packet)]
    assert lost_in(b"".join(twice)) == 0
    filling = bytes([0x47, 0x1F, 0xFF, 0x10]) + bytes(184)
    assert lost_in(b"".join(p for packet in packets for p in (filling, packet))) == 0


def test_a_sender_may_number_anew() -> None:
    first, said, unsaid = (ts_packet(number, anew=anew) for number, anew in ((3, False), (9, True), (9, False)))
    assert lost_in(first + said) == 0
    assert lost_in(first + unsaid) == 5


def test_another_connection_does_not_follow_from_the_last() -> None:
    losses = TsLosses()
    for number, expected in ((3, 0), (9, 5)):
        losses.feed(ts_packet(number, anew=False))
        assert losses.lost == expected
    losses.restart()
    losses.feed(ts_packet(1, anew=False))
    assert losses.lost == 5


def ts_packet(number: int, *, anew: bool) -> bytes:
    return bytes([0x47, 0x01, 0x00, 0x30 | number, 1, 0x80 * anew]) + bytes(182)


def test_bytes_between_packets_are_passed_over(packets: list[bytes]) -> None:
    noise = random.Random(2).randbytes(1000)
    assert lost_in(noise + b"".join(packets)) == 0
    assert lost_in(b"".join(packets[:50]) + noise + b"".join(packets[50:])) == 0


def test_what_ffmpeg_says_of_rtp() -> None:
    losses = RtpLosses()
    for line in ("[rtsp @ 0x1] RTP: missed 3 packets", "[rtsp @ 0x1] max delay reached", "RTP: missed 1 packets"):
        losses.feed(line)
    assert losses.lost == 4


def test_what_ffmpeg_says_of_lists() -> None:
    losses = SegmentLosses()
    for line in (
        "[hls @ 0x1] [warning] Failed to open segment 3 of playlist 0",
        "[hls @ 0x1] [warning] Segment 3 of playlist 0 failed too many times, skipping",
        "[hls @ 0x1] [warning] skipping 2 segments ahead, expired from playlists",
    ):
        losses.feed(line)
    assert losses.lost == 3

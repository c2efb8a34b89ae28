"""Addresses: what is refused, where we wait, and that no secret is ever seen."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from gtasr_video.errors import UsageError
from gtasr_video.masking import mask
from gtasr_video.media.streams.address import Address
from gtasr_video.media.streams.arguments import hide_arguments
from gtasr_video.media.streams.back_off import BackOff

SECRETS = [
    ("rtmp://live.example/app/KEYKEY", "rtmp://live.example/app/***"),
    ("rtmps://live.example:443/app/KEYKEY?token=KEYKEY", "rtmps://live.example:443/app/***?token=***"),
    ("rtmp://KEYKEY:KEYKEY@live.example/app/a/KEYKEY", "rtmp://***@live.example/app/***"),
    ("rtsp://camera:KEYKEY@10.0.0.5:554/stream1", "rtsp://***@10.0.0.5:554/stream1"),
    (
        "srt://h:9000?mode=caller&passphrase=KEYKEY&streamid=KEYKEY",
        "srt://h:9000?mode=caller&passphrase=***&streamid=***",
    ),
    ("rtsp://10.0.0.5/live/KEYKEY", "rtsp://10.0.0.5/live/***"),
    ("https://h/list.m3u8?KEYKEY", "https://h/list.m3u8?***"),
    ("https://h/live/KEYKEY.m3u8", "https://h/live/***.m3u8"),
    ("https://h/live/KEYKEY/index.m3u8?KEYKEY", "https://h/live/***.m3u8?***"),
    ("https://h/live/KEYKEY.tail-of-it", "https://h/live/***"),
    ("http://h/a.ts#KEYKEY", "http://h/a.ts#***"),
]


@pytest.mark.parametrize(("text", "shown"), SECRETS)
def test_secrets_are_never_shown(text: str, shown: str) -> None:
    address = Address(text)
    assert str(address) == shown
    assert "KEYKEY" not in repr(address)
    assert "KEYKEY" not in address.hide(
        f"[out @ 0x1] Error opening {text}: refused; KEYKEY is not known, nor 'KEYKEY'."
    )
    assert mask(f"to {text} and {text}, and on") == f"to {shown} and {shown}, and on"


@pytest.mark.parametrize(
    "secret", ["it's-KEY", 'ke"yKEY', "a<b>KEY", "(KEY).", "KEY/", "a:b;KEY,KEY", "K@EY!KEY", "[KEY]{KEY}"]
)
def test_a_secret_is_hidden_whole_whatever_it_consists_of(secret: str) -> None:
    assert str(Address(f"rtmp://h/app/{secret}")) == "rtmp://h/app/***"
    assert str(Address(f"srt://h:9000?passphrase={secret}")) == "srt://h:9000?passphrase=***"
    for text in (f"rtmp://h/app/{secret}", f"srt://h:9000?passphrase={secret}&mode=caller"):
        assert "KEY" not in Address(text).hide(f"opening '{text}': {secret} is not known")


def test_a_password_that_is_not_well_written_is_hidden_too() -> None:
    assert str(Address("http://user:12/KEY@h/a.ts")) == "http://***"
    assert str(Address("http://user:1/2/KEY@h/a.ts")) == "http://***"
    assert str(Address("rtmp://h//KEY")) == "rtmp://h//***"
    assert "KEY" not in Address("rtmp://h/app/a%3CKEY").hide("no stream a<KEY")


def test_short_secrets_hide_no_words() -> None:
    hidden = Address("rtmp://h/app/on").hide("Connection to on failed on port 1935")
    assert hidden == "Connection to *** failed *** port 1935"
    assert Address("https://h/live/stream.m3u8").hide("no streams in stream") == "no streams in ***"


@pytest.mark.parametrize(
    "text",
    [
        "file:///etc/passwd",
        "concat://a",
        "ftp://h/x",
        "data://x",
        "rtmp:/h/x",
        "rtmp://h:port/KEY",
        "rtmp://h/a b",
        "tcp://[h",
    ],
)
def test_what_cannot_be_used_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Address(text)
    assert "KEY" not in str(caught.value)
    assert "passwd" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("rtmp://:1935/app/key", "rtmp://127.0.0.1:1935/app/key"),
        ("srt://:9000?mode=listener", "srt://127.0.0.1:9000?mode=listener"),
        ("udp://@:1234", "udp://127.0.0.1:1234"),
        ("rtmp://0.0.0.0:1935/app/key", "rtmp://0.0.0.0:1935/app/key"),
        ("tcp://10.0.0.1:9000", "tcp://10.0.0.1:9000"),
        ("udp://[::1]:1234", "udp://[::1]:1234"),
    ],
)
def test_we_wait_on_loopback_unless_told_otherwise(text: str, bound: str) -> None:
    assert Address(text).on_this_machine() == bound


@pytest.mark.parametrize(
    ("text", "listening"),
    [
        ("tcp://:9000?listen", True),
        ("tcp://:9000?listen=", True),
        ("tcp://:9000?timeout=1&listen=yes", True),
        ("tcp://:9000?listen=2", True),
        ("tcp://:9000?listen=0", False),
        ("tcp://:9000?listen=00&listen=1", False),
        ("tcp://:9000?listening", False),
        ("srt://:9000?mode=listener", True),
        ("srt://h:9000?mode=caller&mode=listener", False),
    ],
)
def test_an_address_that_listens_is_told_as_ffmpeg_tells_it(text: str, listening: bool) -> None:
    assert Address(text).listening is listening


def test_a_scheme_may_be_written_in_capitals() -> None:
    address = Address("RTMP://h/app/KEY")
    assert address.text == "rtmp://h/app/KEY"
    assert str(address) == "rtmp://h/app/***"
    assert address.key == "KEY"


def test_what_an_address_may_open_is_limited_to_its_kind() -> None:
    assert Address("https://h/x").scheme.protocols == "https,tls,tcp"
    for text, _ in SECRETS:
        protocols = Address(text).scheme.protocols.split(",")
        assert not {"file", "pipe", "fd", "concat", "subfile", "data", "async", "cache"} & set(protocols)


def test_waits_grow_and_differ() -> None:
    wait = BackOff(random.Random(3))
    waits = [wait.next_s() for _ in range(20)]
    assert all(
        0.5 * full <= got <= 1.5 * full for full, got in zip([0.25, 0.5, 1, 2, 4, 8, *[10] * 14], waits, strict=True)
    )
    assert len(set(waits[6:])) == 14
    wait.reset()
    assert wait.next_s() <= 0.375


def test_arguments_of_a_program_can_be_hidden() -> None:
    """What ``ps`` shows of a running program; what it has read of them stays."""
    code = "import sys, time; print(flush=True); sys.stdin.read(); print(sys.argv[1])"
    command = [sys.executable, "-c", code, "rtmp://h/app/SECRET"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert hide_arguments(mask, process.pid)
        shown = Path(f"/proc/{process.pid}/cmdline").read_text()
        told, _ = process.communicate()
    assert "SECRET" not in shown
    assert "rtmp://h/app/***" in shown
    assert told == "rtmp://h/app/SECRET\n"

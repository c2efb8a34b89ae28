"""What any text shows of the addresses in it: never a secret, and all of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from gtasr_video.masking import mask


@pytest.mark.parametrize("secret", ["it's-KEY", 'ke"yKEY', "a<b>KEY", "(KEY).", "KEY/", "a:b;KEY,KEY", "[KEY]{KEY}"])
def test_a_secret_is_hidden_whole_wherever_it_stands(secret: str) -> None:
    for address in (f"rtmp://h/app/{secret}", f"srt://h:9000?passphrase={secret}&mode=caller"):
        for text in (f"opening '{address}': refused", f'{{"to":"tcp://h:1","also":"{address}"}}', f"tcp://h,{address}"):
            assert "KEY" not in mask(text)


def test_what_stands_around_an_address_is_left_alone() -> None:
    assert mask("'rtmp://h/app/KEY': refused, (tcp://h:1).") == "'rtmp://h/app/***': refused, (tcp://h:1)."
    assert mask("use rtmp://, srt:// or tcp:// addresses") == "use rtmp://, srt:// or tcp:// addresses"
    assert mask("no file:/a/b#c.mp4, a:/b?c nor d") == "no file:/a/b#c.mp4, a:/b?c nor d"


def test_a_path_made_of_an_address_is_hidden_too() -> None:
    assert mask(f"no such file: {Path('rtmp://h/app/KEY.mp4')}") == "no such file: rtmp://h/app/***"

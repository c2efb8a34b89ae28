"""Addresses of streams: what each kind may open, and how much of one may be shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.parse import unquote, urlsplit

from gtasr_video.errors import UsageError
from gtasr_video.masking import HIDDEN, OPEN_PARAMETERS, mask, masked, path_secret

LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Scheme:
    """What may be done with addresses of one kind.

    protocols   FFmpeg's protocols that opening one may use, and no others, whatever a server or a playlist says
    demuxer     how its bytes are read where FFmpeg's protocol brings bytes; None recognises them
    muxer       what it is sent; None where nothing can be sent to it
    listens     whether we can wait there for one who sends
    keyed       whether what follows the first part of its path is a key
    """

    protocols: str
    demuxer: str | None = None
    muxer: str | None = None
    listens: bool = False
    keyed: bool = False


SCHEMES: Final = {
    "rtmp": Scheme("rtmp,tcp", "flv", "flv", listens=True, keyed=True),
    "rtmps": Scheme("rtmps,tls,tcp", "flv", "flv", keyed=True),
    "rtsp": Scheme("rtp,udp,tcp", None, "rtsp", listens=True),
    "rtsps": Scheme("rtp,udp,tcp,tls", None, "rtsp"),
    "srt": Scheme("srt", "mpegts", "mpegts", listens=True),
    "udp": Scheme("udp", "mpegts", "mpegts"),
    "tcp": Scheme("tcp", None, "mpegts", listens=True),
    # A server may send us from http to https, never back.
    "http": Scheme("http,https,tls,tcp"),
    "https": Scheme("https,tls,tcp"),
}
# Names that stand for "every interface of this machine" would be opened to everyone by saying nothing.
_UNSAID_HOSTS: Final = ("", "@")
_ZERO: Final = re.compile(r"\s*[+-]?0+(?!\d)")


class Address:
    """A checked address; `text` holds its secrets, ``str()`` hides them.

    Raises UsageError, without repeating the address, if it is not one that can be used here.

    Example::

        >>> str(Address("rtmp://live.example/app/abcd-1234"))
        'rtmp://live.example/app/***'
    """

    def __init__(self, text: str) -> None:
        scheme, separator, rest = text.partition("://")
        self.name = scheme.lower()
        if not separator or self.name not in SCHEMES:
            known = ", ".join(f"{name}://" for name in SCHEMES)
            raise UsageError(f"addresses that begin with {self.name}:// cannot be used; there are {known}")
        self.scheme = SCHEMES[self.name]
        self.text = text = f"{self.name}://{rest}"  # FFmpeg knows schemes in small letters only
        try:
            self._parts = urlsplit(text)
            self.port = self._parts.port
        except ValueError as error:
            raise UsageError(f"the {self.name}:// address is not well formed") from error
        if any(character.isspace() or not character.isprintable() for character in text):
            raise UsageError(f"the {self.name}:// address holds spaces or control characters")

    @property
    def host(self) -> str:
        """The host, "" where the address does not say one."""
        return self._parts.hostname or ""

    @property
    def path(self) -> str:
        """The path, with its slash."""
        return self._parts.path

    @property
    def key(self) -> str:
        """What follows the first part of the path where that is a key, else ""."""
        return path_secret(self.path) if self.scheme.keyed else ""

    @property
    def is_playlist(self) -> bool:
        """Whether it leads to an HLS playlist."""
        return self.name in ("http", "https") and self.path.lower().endswith(".m3u8")

    @property
    def is_remuxed(self) -> bool:
        """Whether FFmpeg makes packets of it, not bytes of some format."""
        return self.is_playlist or self.name.startswith("rtsp")

    @property
    def is_web_file(self) -> bool:
        """Whether it leads to what an HTTP server gives byte by byte: a film, which has a length, or a live stream."""
        return self.name in ("http", "https") and not self.is_playlist

    @property
    def listening(self) -> bool:
        """Whether the address itself says that we wait for one who connects, as FFmpeg reads it."""
        pairs = [part.partition("=") for part in self._parts.query.split("&")]
        # The first of two counts; `listen` means 1 where what follows is no number.
        said = {name: value for name, _, value in reversed(pairs)}
        return said.get("mode") == "listener" or not _ZERO.match(said.get("listen", "0"))

    def on_this_machine(self) -> str:
        """Return the address for waiting there: on loopback unless it names a host."""
        parts = self._parts
        if parts.netloc.rpartition("@")[2].partition(":")[0] not in _UNSAID_HOSTS:
            return self.text
        port = "" if self.port is None else f":{self.port}"
        return parts._replace(netloc=f"{LOOPBACK}{port}").geturl()

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """The parts that must never be seen, the longest first."""
        parts = self._parts
        pairs = [part.partition("=") for part in parts.query.split("&")]
        values = [value if equals else name for name, equals, value in pairs if name not in OPEN_PARAMETERS]
        path = path_secret(self.path)
        whole = path.strip("/")
        last = whole.rpartition("/")[2]
        found = {path, whole, last, last.partition(".")[0], parts.fragment, *values}
        found |= {parts.password or "", parts.username or ""}
        found |= {unquote(secret) for secret in found}
        return tuple(sorted((secret for secret in found if secret), key=len, reverse=True))

    def __str__(self) -> str:
        return masked(self.text)

    def __repr__(self) -> str:
        return f"Address('{self}')"

    def hide(self, text: str) -> str:
        """Return `text`, such as a message of FFmpeg, without the secrets of this or any other address in it."""
        # Whole first: where an address ends in a text can only be guessed.
        text = mask(text.replace(self.text, str(self)))
        for secret in self.secrets:
            # Short ones would blot out parts of words, and so would what lists are called, such as `stream`: they are
            # hidden where they stand alone.
            alone = len(secret) <= 5 or (self.name.startswith("http") and secret.isalpha())
            pattern = rf"(?<!\w){re.escape(secret)}(?!\w)" if alone else re.escape(secret)
            text = re.sub(pattern, HIDDEN, text)
        return text

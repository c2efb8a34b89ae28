"""What of an address may be shown: its secrets are taken out of any text before anyone sees it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import urlsplit

HIDDEN: Final = "***"
# Parameters that say how to connect, and can be shown; all others may be a password or a token.
OPEN_PARAMETERS: Final = {
    *("mode", "latency", "rcvlatency", "peerlatency", "pkt_size", "timeout", "listen", "fifo_size", "buffer_size"),
    *("ttl", "localaddr", "localport", "overrun_nonfatal", "maxbw", "transtype"),
}
_STREAMED: Final = ("rtsp", "rtsps", "srt", "udp", "tcp", "http", "https")
_KIND: Final = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}")
# pathlib makes one slash of two.
_ONE_SLASH: Final = re.compile(r":/(?!/)")
# An address in a text ends at a space: its secret may hold any other character. What ends a quotation is left alone.
_ANY: Final = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]*://|\b(?:rtmps?|rtsps?|srt|udp|tcp|https?):/(?!/))\S*[^\s'\"<>.,;:)\]}]"
)


def mask(text: str) -> str:
    """Return `text` with the secrets of every address in it hidden: user, password, stream key, parameters."""
    return _ANY.sub(_shown, text) if ":/" in text else text


def _shown(found: re.Match[str]) -> str:
    scheme, slashes, rest = masked(found.group()).partition("://")
    # Without a space between two addresses the second was taken for a part of the first.
    return f"{scheme}{slashes}{mask(rest)}"


def masked(address: str) -> str:
    """Return one address as it may be shown, whatever characters its secrets consist of.

    Of a path of several parts that is the first, and behind http(s) what kind of file the last names: services put
    keys and tokens into any other.

    Example::

        >>> masked("rtmp://live.example/app/it's-secret")
        'rtmp://live.example/app/***'
    """
    try:
        parts = urlsplit(_ONE_SLASH.sub("://", address, count=1))
    except ValueError:
        return f"{address.partition(':')[0]}://{HIDDEN}"
    user, at, host = parts.netloc.rpartition("@")
    netloc = f"{HIDDEN}@{host}" if user else f"{at}{host}"
    path = _path(parts.scheme, parts.path)
    # The key of RTMP may hold one, and is hidden by now.
    if "@" in (path if "rtmp" in parts.scheme else parts.path):
        # A slash in a password, not written as %2F: nothing tells its parts from those of the address.
        return f"{parts.scheme}://{HIDDEN}"
    query = "&".join(_parameter(part) for part in parts.query.split("&")) if parts.query else ""
    return parts._replace(netloc=netloc, path=path, query=query, fragment=HIDDEN if parts.fragment else "").geturl()


def path_secret(path: str) -> str:
    """Return what follows the first part of the path of an address, "" where it has one part or none."""
    return path.removeprefix("/").partition("/")[2]


def _path(scheme: str, path: str) -> str:
    if not (scheme in _STREAMED or "rtmp" in scheme) or not path_secret(path):
        return path
    kind = PurePosixPath(path).suffix if scheme.startswith("http") else ""
    return f"/{path.removeprefix('/').partition('/')[0]}/{HIDDEN}{kind if _KIND.fullmatch(kind) else ''}"


def _parameter(text: str) -> str:
    name, equals, _ = text.partition("=")
    return text if name in OPEN_PARAMETERS else f"{name}{equals}{HIDDEN}" if equals else HIDDEN

"""What a file holds besides its picture, where the output holds pictures and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gtasr_video.media import labels, tags
from gtasr_video.media.holding import described, entry_of, refuse
from gtasr_video.media.source import open_input


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What does not come along.

    streams   an entry each, as reports have it; names: all of it, for people
    """

    streams: tuple[dict[str, Any], ...] = ()
    names: tuple[str, ...] = ()


NOTHING: Final = LeftOut()


def all_but(path: Path, picture: int, form: str, *, drop_unsupported: bool) -> LeftOut:
    """Return what the file `path` holds besides the stream `picture`; `form` is the format that cannot hold it.

    Raises UsageError, naming what another container could hold, unless `drop_unsupported`.
    """
    with open_input(path) as container:
        texts, chapters = tags.describe(container), container.chapters()
        others = [stream for stream in container.streams if stream.index != picture]
        if not drop_unsupported:
            refuse(path, form, [(s, texts.get(s.index, "")) for s in others], None, chapters=bool(chapters))
        kept = labels.lasting(container.metadata)
        names = [described(stream) for stream in others]
        names += [f"{len(chapters)} chapters"] if chapters else []
        names += [f"the tags {', '.join(sorted(kept))}"] if kept else []
        reason = f"{form} cannot hold it"
        return LeftOut(tuple({**entry_of(s), "action": "left out", "reason": reason} for s in others), tuple(names))

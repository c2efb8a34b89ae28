"""Many files: folders and patterns into a folder, keeping the tree; what is there already is left alone."""

from __future__ import annotations

import glob
import inspect
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from gtasr_video.api import UpscaleConfig, upscale
from gtasr_video.api.arguments import SETTINGS, check_options, check_path, paths_of, settle
from gtasr_video.api.times import window_of
from gtasr_video.errors import InputError, UsageError, describe
from gtasr_video.media.codecs import CONTAINERS
from gtasr_video.media.encoding import check_encoding
from gtasr_video.media.folders import below, is_folder, matching
from gtasr_video.media.source import refuse_address, refuse_empty, same_file
from gtasr_video.models import load_model
from gtasr_video.runtime.job.journal import folder_for, is_journal
from gtasr_video.runtime.origins import Origins
from gtasr_video.runtime.pictures import concerns_pictures
from gtasr_video.runtime.report import Report
from gtasr_video.runtime.streaming import is_stream

log = logging.getLogger("gtasr_video")

# What is taken for a video in a folder; a file that is named is taken whatever it is called.
_NAMES: Final = (
    "3g2 3gp asf avi divx dv f4v flv ivf m2ts m2v m4v mkv mov mp4 mpeg mpg mts mxf nut obu ogv rm rmvb ts vob webm wmv"
)
_VIDEOS: Final = frozenset(f".{name}" for name in _NAMES.split())
_UNFINISHED: Final = re.compile(r"(.+)\.(part|suspect)(-\d+)?")
# A file that has not changed for so long is no longer being written.
_SETTLED_S: Final = 5.0
_LOOK_AGAIN_S: Final = 2.0
# So many names go into one line.
_TOLD: Final = 3

State = Literal["done", "there", "failed"]


@dataclass(frozen=True, slots=True)
class Item:
    """One file of a batch, and what is to be made of it.

    fault    why nothing can: it is a folder or a link that cannot be read; else ""
    aside    whether it looks like what a run of ours has left unfinished, and nobody has named it
    rival    another file of the batch, of which the same would be made
    """

    source: Path
    output: Path
    fault: str = ""
    aside: bool = False
    rival: Path | None = None

    def check(self) -> None:
        """Raise UsageError if it would become itself, or two files would become one."""
        if not self.fault and same_file(self.source, self.output):
            raise UsageError(f"{self.source} and its output {self.output} are the same file; give another folder")
        if self.rival is not None:
            raise UsageError(
                f"{self.source} and {self.rival} would both become {self.output}; "
                "give each an OUTPUT of its own, or as INPUT the folder above both, whose tree is kept"
            )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file.

    state    done; there: it was there already; failed
    message  why it failed, else ""
    report   of what was done, else None
    """

    source: Path
    output: Path
    state: State
    message: str = ""
    report: Report | None = None


def find_items(sources: Iterable[str | os.PathLike[str]], folder: str | os.PathLike[str]) -> list[Item]:
    """Return what there is to do: each file in `sources` and where its result goes in `folder`.

    sources  files, folders (searched through, their tree is kept) and patterns (``clips/**/*.mkv``)
    The name is kept; where its extension is none that can be written ``.mkv`` is added. So it depends on nothing but
    the file's own: what else is there, or comes later, changes no result's name, and takes none. Folders and links
    that cannot be read are among the items, with their fault.
    Raises InputError where a source is not there, UsageError where `folder` cannot be one, a file would become itself,
    or two would become one.
    """
    items = _found(sources, Path(folder))
    for item in items:
        if not item.aside:
            item.check()
    aside = [str(item.source) for item in items if item.aside]
    if aside:
        more = f" and {len(aside) - _TOLD} more" if len(aside) > _TOLD else ""
        names = ", ".join(aside[:_TOLD])
        log.warning("left out, as an unfinished run leaves such files: %s%s; give one by name to take it", names, more)
    return [item for item in items if not item.aside]


def _found(sources: Iterable[str | os.PathLike[str]], target: Path) -> list[Item]:
    """Return what `find_items` does, what is left aside, too; where two files would become one each has its rival."""
    check_folder(target)
    items: dict[Path, Item] = {}
    for source in sources:
        for item in _items(os.fspath(source), target):
            path = item.source.absolute()
            if path not in items or items[path].aside:
                items[path] = item
    of: dict[Path, list[Path]] = {}
    made = [item for item in items.values() if not (item.fault or item.aside)]
    for item in made:
        of.setdefault(item.output, []).append(item.source)
    rivals = {item.source: other for item in made for other in of[item.output] if other != item.source}
    return [replace(item, rival=rivals.get(item.source)) for item in items.values()]


def check_folder(folder: Path) -> None:
    """Raise UsageError unless `folder` is one, or can become one."""
    refuse_address(folder, "write")
    if folder.is_file() or (not folder.is_dir() and folder.suffix.lower() in CONTAINERS):
        raise UsageError(f"{folder} is no folder; OUTPUT must be one where INPUT is a folder, or there are several")


def is_many(sources: Sequence[str], output: str) -> bool:
    """Return whether this is about many files or a folder, rather than one file or stream into another."""
    into = (is_folder(output) and Path(output).suffix.lower() not in CONTAINERS) or output.endswith("/")
    into = into and not is_stream(output) and not is_stream(sources[0])
    return len(sources) != 1 or is_folder(sources[0]) or _is_pattern(sources[0]) or into


def _refuse_streams(names: Iterable[str | os.PathLike[str]]) -> None:
    """Raise UsageError if one of `names` is no file or folder; it may hold a key and is not repeated."""
    if any(is_stream(os.fspath(name)) for name in names):
        raise UsageError(
            "a pipe, an address or a list goes with one INPUT and one OUTPUT, no folder, pattern or --watch; "
            "--also names more outputs"
        )


def _is_pattern(source: str) -> bool:
    return glob.has_magic(source) and not os.path.lexists(source) and "://" not in source


def _items(source: str, target: Path) -> Iterator[Item]:
    """Yield what there is to do for one source."""
    if _is_pattern(source):
        base = Path(*_plain_parts(source))
        found = matching(source)
    elif is_folder(source):
        base = Path(source)
        found = below(base, _VIDEOS)
    elif os.path.lexists(source):
        yield Item(Path(source), target / _named(Path(source), Path(Path(source).name)))
        return
    else:
        raise InputError(f"no such file: {source}")
    if _lies_in(base, target):
        raise UsageError(
            f"OUTPUT {target} holds INPUT {source}, so what is in it would be a result; give another folder"
        )
    for path, fault in sorted(found):
        relative = path.relative_to(base)
        if _lies_in(path, target) or any(is_journal(base / folder) for folder in [*relative.parents][:-1]):
            continue
        named = relative if fault else _named(path, relative)
        yield Item(path, target / named, fault, aside=not fault and _is_unfinished(path))


def _plain_parts(pattern: str) -> Iterator[str]:
    """Yield the folders of a pattern before the first that is one."""
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            return
        yield part


def _lies_in(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _is_unfinished(path: Path) -> bool:
    """Return whether `path` is called as we call what is no result, and beside it lies what says that we did."""
    found = _UNFINISHED.fullmatch(path.stem)
    if found is None:
        return False
    name, kind, number = found.groups()
    other = kind if number else f"{kind}-1"
    output, beside = (path.with_name(f"{stem}{path.suffix}") for stem in (name, f"{name}.{other}"))
    return any(map(os.path.lexists, (output, beside, folder_for(output))))


def _named(path: Path, relative: Path) -> Path:
    if path.suffix.lower() in CONTAINERS or concerns_pictures(path, relative):
        return relative
    return relative.with_name(f"{relative.name}.mkv")


def upscale_folder(
    sources: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    config: UpscaleConfig | str | os.PathLike[str] | None = None,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
    watch: bool = False,
    **options: Any,
) -> list[Outcome]:
    """Upscale all videos of `sources` into `folder`, one after the other, with one network for all.

    sources     files, folders and patterns, as `find_items` takes them
    config, options   as `upscale` takes them
    on_outcome  called after each file
    watch       go on looking for new files, also for those that are still being written, until KeyboardInterrupt;
                what such a watch has made is replaced where another film of the name comes

    A file that fails does not stop the others. What has a result already is left alone (unless ``overwrite=True``),
    what was interrupted is gone on with; so the same call again does what is missing.
    Raises UsageError (also for pipes and addresses), InputError, ModelError or DeviceError where that concerns all
    files.

    Example::

        >>> import gtasr_video, pathlib
        >>> pathlib.Path("more").mkdir()
        >>> outcomes = gtasr_video.upscale_folder(["in.mp4"], "more", model="bicubic", scale=2)
        >>> [(outcome.output.name, outcome.state) for outcome in outcomes]
        [('in.mp4', 'done')]
    """
    wanted = paths_of("sources", sources)
    check_path("folder", folder)
    for name in wanted:
        refuse_empty(name, "INPUT")
    refuse_empty(folder, "OUTPUT")
    _refuse_streams([*wanted, folder])
    if unknown := sorted(set(options) - set(inspect.signature(upscale).parameters)):
        raise TypeError(f"upscale_folder() got an unexpected keyword argument '{unknown[0]}'")
    settings = _shared(config, options)
    items = find_items(wanted, folder)
    check_encoding(settings.encoding, [item.output for item in items])
    if not watch and not items:
        raise InputError(f"there is no video in {', '.join(map(str, wanted))}")
    outcomes = []
    origins = Origins(Path(folder)) if watch else None
    for item in _watched(wanted, folder) if watch else items:
        outcome = _one(item, settings, options, origins)
        outcomes.append(outcome)
        on_outcome(outcome)
    return outcomes


def _shared(config: UpscaleConfig | str | os.PathLike[str] | None, options: dict[str, Any]) -> UpscaleConfig:
    """Return the settings, and put the network into `options`, so that it is loaded once; workers load theirs.

    Raises what concerns all files: each would fail by it.
    """
    check_options(options)
    changes = {name: options.pop(name, None) for name in SETTINGS}
    settings, network = settle(config, options.pop("model", None), changes)
    window_of(*(options.get(name) for name in ("start", "duration", "frames")))
    settings.choose_device()
    loaded = network or load_model(settings.model, scale=settings.scale, steps=settings.steps)
    if network is not None or options.get("workers", 1) == 1:
        options["model"] = loaded
    return settings


def _one(item: Item, settings: UpscaleConfig, options: dict[str, Any], origins: Origins | None = None) -> Outcome:
    try:
        item.check()
        if item.fault:
            raise InputError(item.fault)
        item.output.parent.mkdir(parents=True, exist_ok=True)
        wanted = _wanted(item, options, origins)
        if wanted is None:
            return Outcome(item.source, item.output, "there")
        report = upscale(item.source, item.output, config=settings, **wanted)
        if origins is not None:
            origins.finish(item.output)
    except Exception as error:
        return Outcome(item.source, item.output, "failed", describe(error))
    return Outcome(item.source, item.output, "done", report=report)


def _wanted(item: Item, options: dict[str, Any], origins: Origins | None) -> dict[str, Any] | None:
    """Return how to make the result of `item`, None where it is there. Raises OutputError where its name is taken."""
    again = False
    if item.output.exists() and not options.get("overwrite"):
        if origins is None or origins.holds(item.source, item.output):
            return None
        again = True
    stale = origins is not None and origins.begin(item.source, item.output)
    return {**options, **({"overwrite": True} if again else {}), **({"restart": True} if stale else {})}


def _watched(
    sources: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Item]:
    """Yield items as they turn up and are no longer being written, each once unless it changes; never ends."""
    seen: dict[Path, tuple[tuple[int, int], float, bool]] = {}
    while True:
        items = [item for item in _found(sources, Path(folder)) if not item.aside]
        # What was taken away may come again, and is new then.
        seen = {item.source: seen[item.source] for item in items if item.source in seen}
        for item in items:
            mark = _mark(item.source)
            known, since, given = seen.get(item.source, (None, 0.0, False))
            if mark != known:
                seen[item.source] = (mark, clock(), False)
            elif clock() - since >= _SETTLED_S and not given:
                seen[item.source] = (mark, since, True)
                yield item
        pause(_LOOK_AGAIN_S)


def _mark(path: Path) -> tuple[int, int]:
    """Return what changes as long as a file is written; of one that cannot be asked, always the same."""
    try:
        facts = path.stat()
    except OSError:
        return 0, 0
    return facts.st_size, facts.st_mtime_ns

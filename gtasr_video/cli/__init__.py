"""The command line: parse, call the API, turn errors into one line and an exit code.

Exit codes: 0 done, 1 failure, 2 the request itself is wrong, 130 interrupted. stdout carries only what was asked for
(video, tables); progress, warnings and errors go to stderr.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import click

from gtasr_video.errors import GTASRVideoError, describe
from gtasr_video.masking import mask

PROGRAM = "gtasr-video"
INTERRUPTED = 130


class Home(NamedTuple):
    """Where a command lives: the module that has it as `command`, and one line about it for the list."""

    module: str
    help: str


# The line is kept here, not asked of the module, so that --help loads no torch.
COMMANDS = {
    "upscale": Home("gtasr_video.cli.upscale", "Upscale a video: INPUT OUTPUT."),
    "verify": Home("gtasr_video.cli.verify", "Compare an upscaled video with its source."),
    "info": Home("gtasr_video.cli.info", "Say what a file holds, or what this machine can do."),
    "models": Home("gtasr_video.cli.models", "List the networks: size, cost, weights, licence."),
    "train": Home("gtasr_video.cli.train", "Train or fine-tune a network on videos and pictures."),
    "pack": Home("gtasr_video.training.pack_command", "Make a training set small enough to carry."),
    "export": Home("gtasr_video.cli.export", "Write a network as a file that runs without this program."),
    "bench": Home("gtasr_video.cli.bench", "Measure speed, stage by stage, and beside peers."),
    "evaluate": Home("gtasr_video.evaluation.command", "Measure models and peers against full-size truth."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name].module).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command asked for, or fail naming the nearest; refuse an empty word, which names no file."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from gtasr_video.config import nearest

            ctx.fail(f"no command '{args[0]}'{nearest(args[0], COMMANDS)}; there are {', '.join(COMMANDS)}")
        for before, word in pairwise(args):
            if not word and args[0] != "upscale":  # which names its own
                from gtasr_video.media.source import refuse_empty

                refuse_empty(word, before if before.startswith("-") else f"an argument of {args[0]}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, home.help) for name, home in COMMANDS.items()])


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"{PROGRAM} {version()}")
        ctx.exit()


def version() -> str:
    """Return the version of the installed package, or what stands for it in a bare source tree."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as of

    try:
        return of("gtasr-video")
    except PackageNotFoundError:
        return "(not installed)"


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="gtasr-video COMMAND --help says more about each.",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Say which.")
def group() -> None:
    """Video super-resolution that streams."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    _open_what_is_closed()
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Only where nobody asked for something else: nohup ignores SIGHUP, and means it.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)
    # Before torch is loaded: threads that spin while they wait take the cores from decoder and encoder.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    code = invoke(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of a table has seen enough; let the interpreter's own flush at exit find nothing wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _open_what_is_closed() -> None:
    """Give standard streams that a launcher has closed the null device.

    Python has None for them then, and a file of ours would get the number that libraries complain to.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            null = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115, PTH123
            setattr(sys, name, null)
            with contextlib.suppress(OSError):
                if _is_free(number):
                    os.dup2(null.fileno(), number)


def _is_free(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Treat a request to end as Ctrl-C: stop, clean up, leave no half file."""
    raise KeyboardInterrupt(signal.Signals(number).name)


def invoke(arguments: Sequence[str]) -> int:
    """Run the command line `arguments` and return its exit code; every error becomes one line on stderr."""
    try:
        result: Any = group.main(list(arguments), prog_name=PROGRAM, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        return _fail(_usage(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", INTERRUPTED, kind="")
    except GTASRVideoError as error:
        return _fail(describe(error), error.exit_code)
    except SystemExit:
        # How click ends when the reader of our table has gone: it has seen enough, which is no error.
        return 0
    except Exception as error:
        return _unexpected(error, arguments)
    return result if isinstance(result, int) else 0


def _fail(message: str, code: int, *, kind: str = "error: ") -> int:
    click.echo(f"{PROGRAM}: {kind}{mask(message)}", err=True)
    return code


def _usage(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        message = f"{message[:1].lower()}{message[1:]}; see {error.ctx.command_path} --help"
    return message


def _wants_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError):
        return True
    if "torch" not in sys.modules:  # perhaps it is what could not be loaded
        return False
    from gtasr_video.device import is_out_of_memory

    return is_out_of_memory(error)


def _unexpected(error: Exception, arguments: Sequence[str]) -> int:
    """Report what should not happen: one line, and with -v the way there."""
    if _wants_memory(error):
        return _fail("not enough memory; close other programs, or raise the limit of this one (ulimit, container)", 1)
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename else ""
        return _fail(f"{name}{error.strerror}", 1)
    if "-v" in arguments or "--verbose" in arguments:
        click.echo(mask("".join(traceback.format_exception(error))), err=True, nl=False)
    return _fail(f"this should not happen, please report it ({type(error).__name__}: {describe(error)})", 1)

"""Every error this package raises on purpose.

::

    GTASRVideoError
    ├── UsageError              the request itself cannot be carried out (exit code 2)
    │   └── ConfigError         an unknown or ill-typed configuration key or file
    ├── MediaError              something about a file or stream
    │   ├── InputError          it cannot be read, or holds no video
    │   └── OutputError         it cannot be written, or already exists
    ├── ModelError              weights that do not fit, a broken weights file
    │   └── ModelChoiceError    no such tier, scale or number of steps (also a UsageError)
    ├── DeviceError             the device asked for is not there, or ran out of memory
    │   └── DeviceNameError     no device can have this name (also a UsageError)
    ├── TrainingError           training cannot start or go on
    └── EvaluationError         a measurement cannot be made

The message of each is one line that names the file, the time or frame where known, and the way out.
Where the failure happened is added with ``add_note`` while the error travels up; `describe` joins both.
"""

from __future__ import annotations

from gtasr_video.masking import mask


class GTASRVideoError(Exception):
    """Base of all errors raised on purpose. `exit_code` is what the command line returns for it.

    As text it shows no secret of an address, whatever it was made of.

    Example::

        >>> try:
        ...     upscale("none.mp4", "out.mp4")
        ... except GTASRVideoError as error:
        ...     print(error, error.exit_code)
        no such file: none.mp4 1
    """

    exit_code = 1

    def __str__(self) -> str:
        return mask(super().__str__())


class UsageError(GTASRVideoError):
    """The request cannot be carried out as asked: wrong option, output equals input."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file or `--set` names an unknown key, or gives it a value of the wrong type."""


class MediaError(GTASRVideoError):
    """A media file or stream cannot be used.

    restart   whether what an earlier run has kept is of no use, so that the same command would fail again
    """

    def __init__(self, message: str, *, restart: bool = False) -> None:
        super().__init__(message)
        self.restart = restart


class InputError(MediaError):
    """The input is missing, unreadable, truncated before its first frame, or holds no video."""


class OutputError(MediaError):
    """The output exists, its folder cannot be written, the disk is full, or an encoder failed."""


class ModelError(GTASRVideoError):
    """No such weights file, one that does not hold what its header says, or what cannot be made of it."""


class ModelChoiceError(ModelError, UsageError):
    """No model has this name, or the one named has not this scale or so many steps."""


class DeviceError(GTASRVideoError):
    """The requested device is absent or ran out of memory."""


class DeviceNameError(DeviceError, UsageError):
    """No device can have this name."""


class TrainingError(GTASRVideoError):
    """Training data is empty, a loss became NaN, or a checkpoint does not fit."""


class EvaluationError(GTASRVideoError):
    """A clip, metric or peer needed for a measurement is not usable."""


def one_line(text: str) -> str:
    """Return any text, whatever the files in it are called, as one line that a terminal only shows."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))


def describe(error: BaseException) -> str:
    """Return `error` as one line without secrets: its message, then the notes added on its way up."""
    notes: list[str] = getattr(error, "__notes__", [])
    message = str(error) or type(error).__name__
    line = message if not notes else f"{message} ({'; '.join(notes)})"
    return mask(one_line(line))

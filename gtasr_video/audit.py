"""What an audit finds, whoever makes it: of a file, of a pair of files, or of frames that passed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gtasr_video.errors import OutputError


class AuditError(OutputError):
    """An output is not what it should be; it is kept as ``NAME.suspect.EXT``."""


@dataclass(slots=True)
class Audit:
    """What was compared, and what was found wrong.

    facts    plain JSON values, such as how many frames there are
    faults   one line for each thing that is wrong; none: the output is as it should be
    notes    what is different and may be so
    """

    facts: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"passed": self.passed, **self.facts, "faults": list(self.faults), "notes": list(self.notes)}

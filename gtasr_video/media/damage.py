"""What was wrong with a stretch of a file, so that what several readers met can be told as one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Damage:
    """What was met while some frames were read.

    corrupt_packets  damaged packets, size_changes: frames that were brought to the size of the first
    given_up         how often a hardware decoder gave up
    truncated_at_s   seconds at which the picture ended too early, None where it did not
    """

    corrupt_packets: int = 0
    size_changes: int = 0
    given_up: int = 0
    truncated_at_s: float | None = None

    def __add__(self, later: Damage) -> Damage:
        """Return the damage of two stretches, this one before the other."""
        return Damage(
            self.corrupt_packets + later.corrupt_packets,
            self.size_changes + later.size_changes,
            self.given_up + later.given_up,
            self.truncated_at_s if later.truncated_at_s is None else later.truncated_at_s,
        )

    def since(self, before: Damage) -> Damage:
        """Return what was met after `before`, of which this is the continuation."""
        return Damage(
            self.corrupt_packets - before.corrupt_packets,
            self.size_changes - before.size_changes,
            self.given_up - before.given_up,
            self.truncated_at_s,
        )

"""What runs when: data only, one mapping per concern."""

from beat_schedule.entry import Entry
from beat_schedule.merge import CONCERNS, schedule
from beat_schedule.rhythm import Rhythm, describe, rhythm

__all__ = ["CONCERNS", "Entry", "Rhythm", "describe", "rhythm", "schedule"]

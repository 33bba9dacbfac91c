"""What runs when: data only, one mapping per concern."""

from beat_schedule.entry import Entry
from beat_schedule.merge import CONCERNS, schedule

__all__ = ["CONCERNS", "Entry", "schedule"]

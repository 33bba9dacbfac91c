"""Whether databases, control store and broker answer."""

from beat_schedule.entry import Entry

ENTRIES = {"health-check": Entry("health.check", every_s=15.0, expires_s=15.0)}

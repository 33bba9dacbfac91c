"""Messages that never reached a task, into the control store."""

from beat_schedule.entry import Entry

ENTRIES = {"dead-letter-drain": Entry("dead_letters.drain", every_s=10.0, expires_s=10.0)}

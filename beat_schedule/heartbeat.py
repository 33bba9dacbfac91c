"""Messages into each source, so that an idle pipeline differs from a stuck one."""

from beat_schedule.entry import Entry

ENTRIES = {"heartbeat": Entry("sync.heartbeat", every_s=1.0, expires_s=5.0)}

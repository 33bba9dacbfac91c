"""What keeps the ledger proven; only where something is audited."""

from beat_schedule.entry import Entry

ENTRIES = {
    "audit-checkpoint": Entry("audit.checkpoint", every_s=60.0),
    "audit-verification": Entry("audit.verify", crontab="33 3 * * *", expires_s=3600.0),
}

"""What would pile up otherwise."""

from beat_schedule.entry import Entry

ENTRIES = {
    "report-cleanup": Entry("cleanup.reports", crontab="17 * * * *", expires_s=600.0),
    "schedule-cleanup": Entry("cleanup.schedule", crontab="23 * * * *", expires_s=600.0),
    "dead-letter-purge": Entry("dead_letters.purge", crontab="43 3 * * *", expires_s=3600.0),
    "claim-cleanup": Entry("cleanup.claims", crontab="27 * * * *", expires_s=600.0),
}

"""What would pile up otherwise."""

from beat_schedule.entry import Entry

ENTRIES = {
    "report-cleanup": Entry("cleanup.reports", crontab="17 * * * *", expires_s=600.0),
    "claim-cleanup": Entry("cleanup.claims", crontab="27 * * * *", expires_s=600.0),
}

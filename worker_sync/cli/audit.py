"""`audit`: the trail of who changed what, and the proof that it is whole."""

from __future__ import annotations

import click

from worker_sync.cli.audit_evidence import evidence
from worker_sync.cli.audit_forget import forget
from worker_sync.cli.audit_keys import checkpoint, export, keys
from worker_sync.cli.audit_log import log
from worker_sync.cli.audit_personal_keys import personal_keys
from worker_sync.cli.audit_prove import prove
from worker_sync.cli.audit_triggers import triggers
from worker_sync.cli.audit_verify import verify
from worker_sync.cli.options import configured


@click.group(
    epilog="\b\nExamples:\n  worker-sync audit log --table public.orders --row 17\n  worker-sync audit verify\n"
    "  worker-sync audit export export-2026-01",
)
@configured
def audit() -> None:
    """The audit trail: log, verify, prove, checkpoint, export, evidence, keys, personal-keys, forget, triggers."""


for command in (log, verify, prove, checkpoint, export, evidence, keys, personal_keys, forget, triggers):
    audit.add_command(command)

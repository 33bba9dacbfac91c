"""What every user of psycopg needs and psycopg does not have: connections that notice a line which died in silence."""

from worker_sync.libpq.patient import PatientConnection

__all__ = ["PatientConnection"]

"""Capture by triggers, for databases whose log may not be read: triggers write changes into a table, which is read as a
stream. Only audit trails use it (`audit.NAME.capture: triggers`)."""

-- Replays of parked keys and releases of discarded ones: requests that name keys.
ALTER TABLE worker_sync_control.signals ADD COLUMN keys jsonb;
ALTER TABLE worker_sync_control.signals DROP CONSTRAINT signals_kind_check;
ALTER TABLE worker_sync_control.signals ADD CONSTRAINT signals_kind_check
CHECK (kind IN ('snapshot', 'resync', 'pause', 'resume', 'replay', 'release'));

"""The audit ledger's bytes: entries, their Merkle tree, signed checkpoints, exports and their verification.

Pure: no database, no broker, no settings. docs/reference/ledger-format.md describes every byte.
"""

"""What Worker-Sync achieves beside PostgreSQL's own logical replication, on the same servers in the same run."""

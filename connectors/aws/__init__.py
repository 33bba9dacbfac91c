"""Amazon's services, and what speaks their protocols: S3 and KMS. The library is imported here only, on first use."""

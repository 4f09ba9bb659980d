"""Where money and records are kept: the database, the journal, and recovery after a crash."""

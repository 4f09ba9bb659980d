"""Where money and records lie: the database, the journal, and what happens after a crash."""

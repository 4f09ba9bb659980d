"""Keep what all gateways have used and hold in one database: its protocol, its decisions, its tables, on SQLite or PostgreSQL."""

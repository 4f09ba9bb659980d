"""The gateway's own HTTP API: administration, health, metrics, logs, setup and the dashboard."""

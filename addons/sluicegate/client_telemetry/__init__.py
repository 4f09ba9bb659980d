"""Client telemetry: what coding agents tell of themselves by OTLP, compared with our own records and forwarded to a collector."""

"""Telemetry: metrics and a span for each call, exported by OTLP to a receiver that the policy or the environment names."""

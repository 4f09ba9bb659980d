"""The targets, a family per file; importing this registers them all."""

from proving.fuzzing import admin, bodies, credentials, events, hosts, http2, policies, requests, streams

__all__ = ["admin", "bodies", "credentials", "events", "hosts", "http2", "policies", "requests", "streams"]

"""The targets, a family per file; importing this registers them all."""

from proving.fuzzing import admin, bodies, credentials, endpoints, events, hosts, http2, policies, requests, streams, tunnels

__all__ = ["admin", "bodies", "credentials", "endpoints", "events", "hosts", "http2", "policies", "requests", "streams", "tunnels"]

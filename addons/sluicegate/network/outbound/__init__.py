"""Outbound: the way out to providers, webhooks and other hosts where a network lets machines out by a proxy alone."""

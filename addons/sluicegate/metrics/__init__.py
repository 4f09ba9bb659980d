"""Prometheus metrics: counting finished calls, and writing what a scrape reads."""

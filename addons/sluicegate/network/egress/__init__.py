"""Hosts of no provider: which may be reached, and what a tunnel's first bytes say about where it goes."""

"""Servers of the gateway's own, reached only from its port."""

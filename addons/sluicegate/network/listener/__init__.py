"""Listener: the gateway's own port, what certificate it shows and who stands in front of it."""

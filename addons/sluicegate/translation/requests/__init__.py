"""Translate requests: read each dialect's body into a Request, and write one from it."""

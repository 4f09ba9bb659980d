"""Backups: a gateway's state, policy and certificate authority in one file, and putting them back."""

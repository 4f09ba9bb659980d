"""Erase a person from every gateway of a fleet: each carries it out where it is, and says so in the store."""

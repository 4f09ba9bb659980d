"""What can go wrong with the database."""


class StoreError(Exception):
    """The database cannot be used: unreadable, full, locked for too long, or of a newer version."""


class StoreBusy(StoreError):
    """Another process holds the write lock right now; trying again soon may succeed."""

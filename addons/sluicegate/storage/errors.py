"""What can go wrong with the database."""


class StoreError(Exception):
    """The database cannot be used: unreadable, full, locked by somebody who does not let go, or of a newer version."""


class StoreBusy(StoreError):
    """Another process holds the write lock right now; trying again soon may succeed."""

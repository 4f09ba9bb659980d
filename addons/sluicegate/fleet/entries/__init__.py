"""Let every gateway of a fleet show the audit trail, policy history and adjustments of all: each entry once, by its node's name."""

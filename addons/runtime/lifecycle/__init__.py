"""How a gateway ends, or is replaced by another, without a failed call."""

"""Exchange the records of calls: each node's own go to what all share, and those of the others come from there."""

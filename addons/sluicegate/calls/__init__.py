"""A governed call: what it is, whether it may go, what it cost, what is written down of it."""

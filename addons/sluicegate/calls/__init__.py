"""A governed call: what it is, whether it is admitted, what it costs, and its record."""

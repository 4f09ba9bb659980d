"""Which providers and models answer a call, in which order, and what is tried again."""

"""Moving one gateway's state folder into the store of a fleet ahead of its start, and proving that the money is equal."""

"""Changing a policy: the draft and the operations on it, and writing the result back into the YAML text."""

"""Changing a policy: what the change is, how it is written back into the YAML text, and who may."""

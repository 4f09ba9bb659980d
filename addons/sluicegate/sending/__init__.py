"""Sending a call: what it holds while it is under way and, where one attempt may not do, the attempts."""

"""Prompt-cache care: which change made a call pay again for what its provider had cached, and what that cost.

Only hashes of a prompt's blocks are kept, never a word of it. All of it happens after a call has ended, in a thread.
"""

"""Cached answers: an answer that was paid once is given again to a call that says the same."""

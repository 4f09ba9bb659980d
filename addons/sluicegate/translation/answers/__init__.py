"""Answers: a reader and a writer for each dialect, with the neutral events between them."""

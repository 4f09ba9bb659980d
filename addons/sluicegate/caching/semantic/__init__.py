"""Answers to short questions in other words: found by an embedding, held back by a lexical guard and a learned error bound."""

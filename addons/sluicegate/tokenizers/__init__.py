"""Tokenizers: how many tokens a text is, for the models whose tokenizer is published."""

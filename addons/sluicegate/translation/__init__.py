"""Translate model calls between Messages, Chat Completions, Responses and generateContent, by one form that is no provider's."""

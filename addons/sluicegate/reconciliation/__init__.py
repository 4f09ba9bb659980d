"""Comparing our records with what a provider says it has billed."""

"""Accounts of cloud providers, by which each request is signed, or sent with a token that is fetched."""

"""Sign-in: people sign in at the company's identity provider, and their clients get tokens that are virtual keys for a while."""

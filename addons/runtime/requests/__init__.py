"""How a request's body arrives."""

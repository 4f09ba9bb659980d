"""The certificate authority that vouches for providers' hosts to clients of the proxy: where it is, and what follows it."""

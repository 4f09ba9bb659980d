"""Connections on either side, before and below HTTP: ports, TLS, tunnels, proxies and whom to trust."""

"""The network around a gateway: its own port, the proxies on its way out, and hosts that are not a provider's."""

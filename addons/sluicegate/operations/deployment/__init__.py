"""Files that run a gateway: service units, images, charts and proxies in front of it, filled in for one site."""

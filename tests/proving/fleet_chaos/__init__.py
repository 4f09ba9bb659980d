"""Three gateways in network namespaces, one PostgreSQL and a provider that bills: what is broken, and what must hold after it."""

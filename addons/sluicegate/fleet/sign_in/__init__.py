"""Sign-ins for several gateways or workers: one store, in a file of this host or in the fleet's database."""

"""Several gateways with one budget: the store they share, and the leases by which each spends its part without asking."""

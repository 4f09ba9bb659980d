"""Read request bodies strictly and at a bounded cost, whatever the protocol."""

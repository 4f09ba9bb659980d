"""Keep the policy in the database that several gateways share: its table, its source, its history, and moving it in and out."""

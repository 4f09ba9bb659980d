"""Budget alerts: when one is due, and sending it to webhooks."""

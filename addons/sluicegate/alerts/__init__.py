"""Budget alerts: finding thresholds that were reached, and delivering the messages to webhooks."""

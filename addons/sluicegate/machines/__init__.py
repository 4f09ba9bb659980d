"""What a developer machine needs to use the gateway: variables, certificates, lines to type, settings files."""

"""What is wrong with an installation, on the gateway's machine or a developer's, and what mends it."""

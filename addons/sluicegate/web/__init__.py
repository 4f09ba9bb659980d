"""What the gateway says of itself over HTTP: health, metrics, setup, usage."""

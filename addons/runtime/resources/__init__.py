"""What memory, descriptors and connections may take."""

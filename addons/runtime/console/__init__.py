"""What is printed, and what never is."""

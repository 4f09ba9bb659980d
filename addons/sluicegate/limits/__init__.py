"""What every scope has used and reserved, and whether a call still fits its limits."""

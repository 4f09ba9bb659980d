"""Prices as dated data, and what a usage costs."""

"""Budgets of customers, teams and users as spend limits, in the form of Anthropic's Admin API."""

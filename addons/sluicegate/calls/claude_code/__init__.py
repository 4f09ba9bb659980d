"""What Claude Code is told of its caller's budgets, in the form that it shows: refusals, and what is left on each answer."""

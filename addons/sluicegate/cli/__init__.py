"""The command line: what operators and developers do besides editing the policy."""

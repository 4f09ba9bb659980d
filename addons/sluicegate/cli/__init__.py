"""The command line: everything operators and developers do except editing the policy."""

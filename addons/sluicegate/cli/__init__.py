"""The command line: what operators and developers do from a shell, and where a gateway is started."""

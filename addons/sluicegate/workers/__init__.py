"""Several worker processes on one port and one state folder: the supervisor, and what a worker has of its own."""

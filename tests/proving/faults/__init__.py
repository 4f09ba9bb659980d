"""The faults, a family per file; importing this registers them all."""

from proving.faults import clients, machine, operators, process, upstream

__all__ = ["clients", "machine", "operators", "process", "upstream"]

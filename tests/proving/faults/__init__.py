"""The faults, a family per file; importing this registers them all."""

from proving.faults import clients, failover, machine, operators, process, tunnels, upstream

__all__ = ["clients", "failover", "machine", "operators", "process", "tunnels", "upstream"]

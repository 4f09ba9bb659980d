"""The proving ground: faults, speed and bad input, each against a real gateway on loopback."""

"""Read answers piece by piece, whatever the protocol: framing, encodings, reported counts, what was delivered."""

"""Operating a gateway: putting it on a machine, finding out what is wrong with it, and keeping its state safe."""

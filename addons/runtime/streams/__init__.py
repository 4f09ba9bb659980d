"""The way of a streamed answer through the gateway, and what may be held of one."""

"""The control socket: what an operator and the agent ask and tell the daemon."""

"""The control socket, and the state that the daemon reports over it."""

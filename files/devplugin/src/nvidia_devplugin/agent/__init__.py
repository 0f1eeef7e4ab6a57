"""The agent: the part of the device plugin that speaks with the Kubernetes API, as a process beside the daemon.

It has a token and no GPU, the daemon has GPUs and no token; between them is the daemon's control socket. What to write
is decided by pure functions (`decide`, `events`); `api` and `daemon` carry it, `run` ties them together.
"""

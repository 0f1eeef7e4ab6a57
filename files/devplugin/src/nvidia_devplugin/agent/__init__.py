"""The agent: writes to the Kubernetes API for the daemon, as a process of its own in the same pod.

The agent has a token and no GPU, the daemon has GPUs and no token; they talk over the daemon's control socket. agent.py
runs the agent, node_changes and events compute what to write, api and daemon_client talk to the two sides. It needs the
standard library alone.
"""

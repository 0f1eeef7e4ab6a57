"""Simulated GPU nodes: containers with systemd, real container engines and a real Kubernetes.

Known to the tests and the demo alone; nothing in the collection imports it.
"""

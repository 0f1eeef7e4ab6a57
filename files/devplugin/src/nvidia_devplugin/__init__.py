"""A Kubernetes device plugin for NVIDIA GPUs.

nvml reads the driver, health judges, devices decides what is offered and handed out, kubelet serves it; labels, http
and control tell others, agent writes to the Kubernetes API. daemon.py connects them. The import contract in
pyproject.toml says which package may import which.
"""

__version__ = "0.1.0"

"""A Kubernetes device plugin for NVIDIA GPUs.

Data flows one way: nvml -> model -> resources -> plugin -> kubelet; events take the same way through health. The rooms
model, config, resources, allocation, preference and health decide and touch nothing: no socket, no clock, no library.
"""

__version__ = "0.1.0"

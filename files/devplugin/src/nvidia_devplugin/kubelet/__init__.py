"""The kubelet's side: registration, the device plugin service, and the PodResources API."""

"""The kubelet's side: registration, the device plugin service, and the PodResources API."""

import os

# the gRPC library writes to standard error past the log, and reads this when it is imported
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

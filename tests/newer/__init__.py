"""What a Kubernetes newer than the test cluster's has to say: its own Go libraries, from Debian's packages.

Debian packages Kubernetes' libraries, but of its programs since 1.20 only kubectl. So no newer cluster can be built
from them, but two small programs can: a kubelet's side of the device plugin API, and a reader of manifests that knows
which fields there are.
"""

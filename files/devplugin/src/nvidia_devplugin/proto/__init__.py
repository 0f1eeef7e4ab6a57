"""The kubelet's device plugin API on the wire: messages (generated) and service bindings (written).

`deviceplugin_pb2.py` and its `.pyi` come from `deviceplugin.proto` by `scripts/generate-proto`. The bindings of the
two services are a page of typed code in `services.py`: grpcio's own generator would tie the package to the newest
grpcio and produce untyped code. Nothing but the wire may live here.
"""

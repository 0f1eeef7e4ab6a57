"""The kubelet's device plugin API on the wire: its messages, generated from the .proto files by `scripts/generate-proto`.

Nothing else may live here; what the messages are sent with is in `services.py` and `rpc`.
"""

"""gRPC on unix sockets: what a device plugin and a kubelet say to each other, and no more.

HTTP/2 is ngh2's, a binding of libnghttp2; what gRPC adds to it is here: five bytes before each message, a path for
each method, and a status at the end (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). Left out, since
no kubelet uses them: TLS, compression, requests of several messages, retries. Messages are bytes here; what they mean
is for others.
"""

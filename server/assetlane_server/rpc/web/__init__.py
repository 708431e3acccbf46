"""The web gateway: the services of the gRPC port for browsers, phones and shells, over HTTP/1.1.

gRPC-Web, Connect, and JSON over the REST paths of the contract. Every call passes the interceptor of the gRPC port.
"""

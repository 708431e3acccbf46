"""The gRPC edge: messages in, messages out, refusals to status codes. Protos stop here."""

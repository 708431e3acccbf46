"""The Assetlane server."""

import os

# gRPC reads this when it is imported, and by default does its own work between every fork and exec: with other
# threads in gRPC, and uvloop starting the process, that kills the child (SIGSEGV, about one in 200) before it is
# the program that was asked for. We fork before any gRPC object exists, or start programs; neither wants that work.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

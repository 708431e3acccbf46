"""Python, with the thin client and with bare stubs."""

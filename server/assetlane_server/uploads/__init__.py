"""The use cases: what happens to uploads and assets. No I/O but through the ports."""

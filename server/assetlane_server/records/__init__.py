"""Uploads and assets in MongoDB, and the change stream that wakes watchers."""

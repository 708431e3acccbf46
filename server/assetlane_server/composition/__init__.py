"""Puts the server together from its settings."""

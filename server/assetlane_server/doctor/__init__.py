"""Checks a whole set-up with real requests and says how to fix what it finds. Sits beside the application."""

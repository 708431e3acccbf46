"""Checks a whole set-up for real and says how to mend what it finds. Sits beside the application."""

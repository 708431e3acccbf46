"""A back end that lets its users' devices upload: see app.py."""

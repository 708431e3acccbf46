"""How coroutines of one process share work and wait for each other."""

"""How the server runs: one process that serves until a signal, or several workers with a supervisor."""

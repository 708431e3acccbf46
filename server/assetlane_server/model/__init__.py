"""The model: pure values and decisions. Imports no library, does no I/O."""

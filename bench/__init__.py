"""What the server costs, beside minimal programs that do the same (floors) and other software: `make bench`."""

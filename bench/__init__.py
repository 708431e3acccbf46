"""What the server costs, side by side with floors and peers: `make bench`, or `python -m bench [NAME…]`."""

"""Server-made cuts: Pillow in processes of its own, bounded in time, memory and number."""

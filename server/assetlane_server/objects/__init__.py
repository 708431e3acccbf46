"""Object storage: signs URLs and talks to the store."""

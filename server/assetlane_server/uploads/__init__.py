"""The heart: what an upload and an asset are, and what may happen to them. Pure but for its ports."""

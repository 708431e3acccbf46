"""The Assetlane server."""

"""The `assetlane-server` command."""

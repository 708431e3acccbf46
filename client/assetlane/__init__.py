"""Assetlane: a lane straight into object storage."""

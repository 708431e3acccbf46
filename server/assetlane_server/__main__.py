"""`python -m assetlane_server` is `assetlane-server`."""

from assetlane_server.cli import main

main()

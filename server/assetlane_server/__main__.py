"""`python -m assetlane_server` is `assetlane-server`."""

from assetlane_server.cli import main

if __name__ == "__main__":  # a worker process imports its parent's main module
    main()

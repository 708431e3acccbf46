"""`python -m assetlane.cli`."""

from assetlane.cli import main

if __name__ == "__main__":
    main()

"""`python -m assetlane.cli`."""

from assetlane.cli import main

main()

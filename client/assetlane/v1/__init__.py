"""The generated stubs of `protos/assetlane/v1`. Never edited: `make proto` writes them."""

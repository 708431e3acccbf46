"""What the use cases need from outside: one Protocol a file, each method with its promise.

Every adapter passes `tests/contracts/`. Unless a method says otherwise, an adapter raises LedgerUnavailable or
StoreUnavailable when its server does not answer in time, and changes nothing that it was not asked to change.
"""

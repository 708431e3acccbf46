"""Who calls, and what he may do: tokens and their keys, the partition policy, certificates."""

"""Who calls, and what they may do: tokens and their keys, the partition policy, certificates."""

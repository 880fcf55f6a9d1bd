"""Which node next, and the life of one task."""

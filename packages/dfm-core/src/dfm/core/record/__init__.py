"""What ran, with what, and whether it still stands."""

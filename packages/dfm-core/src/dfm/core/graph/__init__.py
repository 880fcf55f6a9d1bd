"""From the model to a directed acyclic graph of nodes."""

"""From a flow file to a checked, immutable model, or to all its faults at once."""

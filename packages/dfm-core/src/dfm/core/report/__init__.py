"""Sinks of events: what a person sees of a run."""

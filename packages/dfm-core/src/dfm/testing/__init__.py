"""The kit for authors of runners: batch systems to try them on, and the suite that every runner must pass."""

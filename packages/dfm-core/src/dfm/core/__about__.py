"""The version of the dfm-core distribution, and where its users report faults."""

__version__ = "0.1.0"
ISSUES = "https://github.com/dfm-runner/dfm/issues"

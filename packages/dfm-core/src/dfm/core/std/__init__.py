"""The standard library of flows: its flow.yaml and the Python bodies of std.*; imports dfm.api only.

Its tasks run inside DFM's own process: they start nothing and cost no slot.
"""

from pathlib import Path

FLOW_FILE = str(Path(__file__).with_name("flow.yaml"))
"""Absolute path of the flow file of package `std`."""

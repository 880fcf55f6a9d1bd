"""Messages between processes: frames, messages, who may speak, and what was heard. Pure but for `channel`."""

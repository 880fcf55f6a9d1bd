"""The LSF runner: announced here, and honest about what this version cannot do."""

"""The SLURM runner: announced here, and honest about what this version cannot do."""

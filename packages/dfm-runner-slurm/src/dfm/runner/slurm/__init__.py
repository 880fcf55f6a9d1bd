"""The SLURM runner: what is said to sbatch, squeue, scancel, scontrol and sacct, and what their answers mean.

Pure throughout: command lines out, text in. The core's pool runs the commands and decides how many workers there are.
"""

"""The LSF runner: what bsub, bjobs, bkill and bhist are asked, and what they answer. Pure; the core owns the pool."""

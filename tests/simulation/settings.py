"""The pool that is simulated."""

from dfm.core.config.settings import PoolSettings
from dfm.core.wire.messages import Shape

SHAPE = Shape(cores=1)
SETTINGS = PoolSettings(max_workers=5, idle_timeout=60.0, walltime_margin=5.0, launch_batch_size=4)

"""The pool that is simulated: workers of two shapes, and a limit that differs from seed to seed."""

from dataclasses import replace

from dfm.core.config.settings import PoolSettings
from dfm.core.wire.messages import Shape

SMALL, LARGE = Shape(memory_bytes=1, resource_class="small"), Shape(memory_bytes=2, resource_class="large")
SHAPES = (SMALL, LARGE)
SETTINGS = PoolSettings(idle_timeout=60.0, walltime_margin=5.0, launch_batch_size=4)
LIMITS = (1, 2, 5)


def settings_with(max_workers: int) -> PoolSettings:
    """Return the settings of a pool with so many workers at the most."""
    return replace(SETTINGS, max_workers=max_workers)

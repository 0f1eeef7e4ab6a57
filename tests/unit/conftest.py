"""How hard Hypothesis searches: everyday runs take a third of its examples, CI (where CI is set) takes all."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# a busy machine is no failure
settings.register_profile("ci", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("everyday", settings.get_profile("ci"), max_examples=33)
settings.load_profile("ci" if os.environ.get("CI") else "everyday")

import os

import yaml

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # a host's environment without the tools of development
    pass
else:
    # how long an example takes is the machine's affair
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")

# one process of a two-core machine; set before torch is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# the same YAML parsed in C: hundreds of tests compose verl's thirty files, in 0.6 of the time
yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

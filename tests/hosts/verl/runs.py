"""A run of some methods without a configuration of verl, for tests of what happens to a batch."""

from entropo_plugin.config import parse
from entropo_plugin.methods import Host
from entropo_plugin.methods.active import activate
from entropo_plugin.run import Run


def run_of(*methods, estimator="grpo", loss="vanilla", entropy=None, facts=None, **node):
    """A run of these methods, and of those that the estimator and the loss are doors to.

    Args:
        methods: as in ``entropo.methods``.
        estimator, loss: what the user's configuration names.
        entropy: token-mean entropy of the first step, where it has been observed.
        facts: further fields of ``Host``.
        node: settings below ``entropo:``.
    """
    settings = parse({"methods": list(methods)} | node)
    host = Host(estimator=estimator, loss_mode=loss, **(facts or {}))
    run = Run(activate(settings, host), settings)
    if entropy is not None:
        run.loop.observe(entropy * 10, 10)
    return run

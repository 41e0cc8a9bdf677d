"""The methods: one file each, and the only place that knows a method's name.

``base`` says what a method is, ``registry`` finds it, ``active`` decides which ones run.
"""

from entropo_plugin.methods.base import Host, Method, Tokens
from entropo_plugin.methods.registry import register

__all__ = ["Host", "Method", "Tokens", "register"]

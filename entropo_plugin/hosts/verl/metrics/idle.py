"""The watch over idle methods, under the name that it has had here."""

from entropo_plugin.hosts.idle import Idle

__all__ = ["Idle"]

"""Controllers: measured entropy in, coefficient out. Pure Python; the state is a JSON dictionary."""

from entropo_plugin.control.controllers import Controller, Move
from entropo_plugin.control.laws import doubling, fixed
from entropo_plugin.control.targets import TargetTracker

__all__ = ["Controller", "Move", "TargetTracker", "doubling", "fixed"]

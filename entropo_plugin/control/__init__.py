"""Controllers: measured entropy in, coefficient out. Pure Python; the state is a JSON dictionary."""

from entropo_plugin.control.controllers import Controller, Move
from entropo_plugin.control.laws import LAWS, Options, additive, doubling, fixed, multiplicative, neutral
from entropo_plugin.control.schedules import scheduled
from entropo_plugin.control.targets import TargetTracker

__all__ = [
    "LAWS",
    "Controller",
    "Move",
    "Options",
    "TargetTracker",
    "additive",
    "doubling",
    "fixed",
    "multiplicative",
    "neutral",
    "scheduled",
]

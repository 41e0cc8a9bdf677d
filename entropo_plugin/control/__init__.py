"""Controllers: measured entropy in, coefficient out. Pure Python; the state is a JSON dictionary."""

from entropo_plugin.control.coefficients import MEASURED, OPEN_LOOP, Coefficient, Control, Measured
from entropo_plugin.control.controllers import Controller
from entropo_plugin.control.laws import LAWS, Options, additive, doubling, fixed, multiplicative
from entropo_plugin.control.loop import ControlLoop
from entropo_plugin.control.schedules import scheduled
from entropo_plugin.control.settings import Anneal, Gains, Target
from entropo_plugin.control.targets import TargetTracker
from entropo_plugin.control.watch import ActuatorWatch

__all__ = [
    "LAWS",
    "MEASURED",
    "OPEN_LOOP",
    "ActuatorWatch",
    "Anneal",
    "Coefficient",
    "Control",
    "ControlLoop",
    "Controller",
    "Gains",
    "Measured",
    "Options",
    "Target",
    "TargetTracker",
    "additive",
    "doubling",
    "fixed",
    "multiplicative",
    "scheduled",
]

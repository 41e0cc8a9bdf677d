"""The trainer's overrides and the estimators, on the driver."""

"""Measurements of a checkpoint's layers: recorded signals, feedback profile, Jacobians, importance, loss."""

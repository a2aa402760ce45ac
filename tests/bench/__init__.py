"""Measurements, each with a floor beside it."""

"""Predictions to numbers a user can trust: each with its sample size, its interval and its seeds."""

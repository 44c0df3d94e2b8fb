"""Trainings that scores share."""

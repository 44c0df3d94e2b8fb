"""Recipes: how a network is trained."""

"""Recipes: one run for each number that we report."""

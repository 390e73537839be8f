"""Distillation methods, one file each, by the name that a recipe's `method.name` gives."""

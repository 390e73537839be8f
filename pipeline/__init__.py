"""A recipe's run: recipes, and the resumable phases teacher -> student -> bundle -> summary."""

"""The main job: recipes, and the resumable stages teacher -> student -> bundle -> summary."""

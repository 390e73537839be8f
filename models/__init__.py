"""Teachers and students of any architecture: made by name, loaded, and tapped at four stages."""

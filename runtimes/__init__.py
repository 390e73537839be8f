"""What runs a model file, each kind behind the same four verbs; torch is loaded only by its own."""

"""What turns inputs into logits on a serving machine, each kind behind the same four verbs."""

"""Distillation: MLDR-KD and the methods it is measured against, and the trainer they share."""

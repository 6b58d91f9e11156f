"""What `progrpo shift` shows: each variant's shift on a model before training."""

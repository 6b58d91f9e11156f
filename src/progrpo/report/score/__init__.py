"""What `progrpo score` shows: several methods on the same rollouts."""

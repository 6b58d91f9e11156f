"""The Python way: `progrpo.train`, `evaluate`, `compare`, `score` and what they return; the command line calls them, too."""

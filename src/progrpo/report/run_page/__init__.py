"""The page of runs: what was learned, what it cost, and completions to look at."""

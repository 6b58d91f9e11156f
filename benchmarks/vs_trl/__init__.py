"""The parts of `benchmarks/vs_trl.py`, which says what they are for."""

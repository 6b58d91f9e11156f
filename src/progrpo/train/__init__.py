"""Algorithm 1: sample, verify, weigh, update, with everything needed to stop at any moment and go on to the last bit."""

"""Algorithm 1: sample, verify, weigh, update, with everything needed to stop at any moment and go on to the last bit."""

from progrpo.callable_package import make_callable

make_callable(__name__, "progrpo.api.train:train")

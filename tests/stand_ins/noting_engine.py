"""The source of an engine that notes what it is asked, for a module of its own: its `calls` are then a test's own. It draws
from torch's generator, as vLLM does, so that a test can see whether that shows."""

ENGINE = '''
"""The engine "hf", noting when it is given the weights and when it is to generate."""
import torch
from progrpo.engines import Engine, hf
from progrpo.engines.hf import Params
calls = []
class Noting(Engine):
    checks_weights = True
    def __init__(self, inner):
        self.inner, self.capabilities = inner, inner.capabilities
    def update_weights(self, tensors, version):
        calls.append(f"version {version}: {len(list(tensors))} tensors")
        self.inner.update_weights((), version)
        self.version = version
    def close(self):
        calls.append("close")
    def generate(self, requests, sampling, **kwargs):
        torch.rand(1)
        calls.append(len(requests[0].seeds))
        return self.inner.generate(requests, sampling, **kwargs)
def make(model, params):
    return Noting(hf.make(model, params))
'''

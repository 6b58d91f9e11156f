"""Any method that SkyRL can honour inside SkyRL's own trainer, by its documented way: a subclass that `get_trainer` returns.

class Experiment(BasePPOExp):
    def get_trainer(self, *arguments, **named):
        return ProGRPORayTrainer(*arguments, method={"name": "progrpo", "alpha": 0.3}, **named)

with trainer.algorithm.advantage_estimator=progrpo

trainer   SkyRL's trainer with a method
rollout   its tensors and settings as the methods see them; imports nothing of SkyRL
"""

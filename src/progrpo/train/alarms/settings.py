"""The section `alarms` of the settings: every alarm by its name."""

from collections.abc import Mapping

from progrpo.settings import Settings
from progrpo.train.alarms.contract import AlarmCheck
from progrpo.train.alarms.of_rollouts import (
    Duplicates,
    EntropyCollapse,
    LengthBlowUp,
    NothingCorrect,
    RepeatedText,
    Truncation,
    VerdictFailures,
    ZeroStdGroups,
)
from progrpo.train.alarms.of_training import (
    FrozenEngine,
    GradientSpikes,
    NothingToLearn,
    PassAtKFalls,
    SamplerApart,
)


class AlarmSettings(Settings):
    """What is watched, and from where on it is said."""

    watch: bool = True
    """false raises no alarm at all."""
    ignore: tuple[str, ...] = ()
    """Names of alarms that are not raised."""
    stop: tuple[str, ...] = ()
    """Names of alarms that end the run: with a checkpoint, at the end of the rollout, and exit status 4."""
    entropy_collapse: EntropyCollapse = EntropyCollapse()
    """Little entropy is left, and it still falls."""
    repeated_text: RepeatedText = RepeatedText()
    """Completions end in a stretch that stands again and again."""
    length_blow_up: LengthBlowUp = LengthBlowUp()
    """Completions get longer and no better."""
    truncation: Truncation = Truncation()
    """Many completions are cut."""
    pass_at_k_falls: PassAtKFalls = PassAtKFalls()
    """Held-out Pass@k falls while the reward rises."""
    zero_std_groups: ZeroStdGroups = ZeroStdGroups()
    """Most groups are all correct or all incorrect."""
    nothing_to_learn: NothingToLearn = NothingToLearn()
    """A step has no advantage at all."""
    nothing_correct: NothingCorrect = NothingCorrect()
    """No completion is judged correct."""
    sampler_gap: SamplerApart = SamplerApart()
    """The sampler's log-probs are too far from the trainer's."""
    frozen_engine: FrozenEngine = FrozenEngine()
    """Syncs do not change what the engine samples from."""
    verdict_failures: VerdictFailures = VerdictFailures()
    """The verifier fails to give verdicts."""
    duplicates: Duplicates = Duplicates()
    """Completions of a group repeat each other."""
    gradient_spikes: GradientSpikes = GradientSpikes()
    """Gradients are now and then many times as long as usual."""

    @property
    def checks(self) -> Mapping[str, AlarmCheck]:
        """Every alarm of this package by its name."""
        fields = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: value for name, value in fields if isinstance(value, AlarmCheck)}

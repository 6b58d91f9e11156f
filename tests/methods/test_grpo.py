from progrpo import methods
from progrpo.methods import grpo
from progrpo.settings import Choice


def test_it_defines_nothing() -> None:
    assert [name for name in vars(grpo) if not name.startswith("_")] == []


def test_its_settings_are_eq_3() -> None:
    method = methods.load(Choice(name="grpo"))
    assert (method.params.clip_low, method.params.clip_high) == (0.2, 0.2)
    assert method.params.aggregate == "sequence"
    assert method.needs == frozenset()
    assert method.check(16) == []

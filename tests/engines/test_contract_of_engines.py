import pytest

from progrpo import engines
from progrpo.model import LanguageModel
from progrpo.settings import Choice
from stand_ins.engine_contract import check_all


@pytest.mark.parametrize("name", ["hf", pytest.param("paged", marks=pytest.mark.slow)])
def test_the_contract_of_engines(tiny_model: LanguageModel, name: str) -> None:
    hf = engines.load(Choice(name="hf"), tiny_model)
    check_all(engines.load(Choice(name=name), tiny_model), hf, tiny_model, atol=1e-4)

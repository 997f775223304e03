"""A configuration that explains itself: the same loop, and no key without words."""

import pytest
from pydantic import BaseModel

from ctrlattn import PID, config, presets
from ctrlattn.config import explanation as room
from ctrlattn.config import schema


@pytest.mark.parametrize("name", presets.names())
def test_the_comments_change_nothing(name):
    loop = presets.get(name)
    plan = config.Simulation(layers=3, seed=7)
    read = config.loads(config.explained(loop, plan))
    assert config.dumps(read.loop, read.simulation) == config.dumps(loop, plan)


def test_every_key_of_a_file_has_words_and_every_word_a_key():
    models = [schema.LoopModel, schema.SimulationModel]
    for union in room._UNIONS.values():
        models += schema.members(union)
    keys = {key for model in models if issubclass(model, BaseModel) for key in model.model_fields}
    assert keys == set(room.WORDS)


def test_every_kind_is_offered_with_its_keys():
    text = config.explained(presets.get("pidformer-printed"))
    for kind in (*config.kinds()["predictors"], *config.kinds()["controllers"]):
        assert f'# kind = "{kind}"' in text
    assert "kp, ki, kd, form, ema" in text
    assert PID(0.8).form in text


def test_every_value_has_its_comment():
    lines = config.explained(presets.get("neutreno")).splitlines()
    values = [line for line in lines if " = " in line and not line.startswith("#")]
    assert len(values) > 12
    assert all(" # " in line for line in values)

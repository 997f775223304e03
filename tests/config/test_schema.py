"""The models of a file know every named part of a loop, with the very options that it has."""

import inspect
from dataclasses import fields

import pytest

from ctrlattn import config, controllers, normalizers, predictors
from ctrlattn.config.schema import AnyController, AnyNormalizer, AnyPredictor, members

PREDICTORS = [predictors.CausalMean, predictors.FixedAttention, predictors.SoftmaxAttention]
PREDICTORS += [predictors.AssociativeMemory, predictors.BilateralFilter]
NORMALIZERS = [normalizers.rms_norm, normalizers.layer_norm, normalizers.unit_norm]


def model_of(makes, union):
    return next(model for model in members(union) if getattr(model, "makes", None) is makes)


def test_every_kind_has_its_word():
    assert config.kinds() == {
        "predictors": ["causal_mean", "fixed_attention", "softmax_attention", "associative_memory", "bilateral_filter"],
        "controllers": ["pid", "lti", "none"],
        "normalizers": ["rms_norm", "layer_norm", "unit_norm", "none"],
    }


@pytest.mark.parametrize(
    ("makes", "union"), [*((p, AnyPredictor) for p in PREDICTORS), (controllers.PID, AnyController)]
)
def test_the_keys_of_a_dataclass_are_its_fields(makes, union):
    assert model_of(makes, union).options() == [f.name for f in fields(makes) if f.init]


@pytest.mark.parametrize("makes", NORMALIZERS)
def test_the_keys_of_a_normalizer_are_its_options(makes):
    assert set(model_of(makes, AnyNormalizer).options()) == set(inspect.signature(makes).parameters) - {"x"}

"""What is saved loads again and computes the same; plain transformers computes the same or refuses."""

import json

import pytest
import torch
import transformers
from alike import alike
from safetensors.torch import load_file

from ctrlattn import InputError
from ctrlattn.checkpoints import Calibration, drop, is_changed, load, open_changed, save
from ctrlattn.checkpoints.network.save import discard_unfinished
from ctrlattn.identity import of_network


def logits(model, text):
    with torch.no_grad():
        return model(input_ids=torch.as_tensor(text(2)), use_cache=False).logits


def test_a_bare_drop_is_exact_in_plain_transformers_and_drops_again_here(network, text, causal, tmp_path):
    smaller = drop(network(causal, double=False), attention=[0, 2], mlp=[1])
    save(smaller, tmp_path / "out")
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", attn_implementation="sdpa")
    torch.testing.assert_close(logits(plain, text), logits(smaller.model, text), rtol=1e-5, atol=1e-5)
    again = load(tmp_path / "out", attention="sdpa")
    torch.testing.assert_close(logits(again.model, text), logits(smaller.model, text), rtol=0, atol=0)
    assert again.model.config.ctrlattn == smaller.model.config.ctrlattn
    ids = torch.as_tensor(text(1, 4))
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 8, "do_sample": False}
    cached, anew = (again.model.generate(ids, use_cache=use, **options) for use in (True, False))
    assert torch.equal(cached, anew)
    assert sum(p.numel() for p in again.model.parameters()) < sum(p.numel() for p in plain.parameters())


@pytest.mark.parametrize(("causal", "rank"), [("llama", None), ("gpt2", 4), ("neox", None), ("gemma3", 4)])
def test_gains_come_back_and_plain_transformers_refuses_them(network, text, causal, rank, tmp_path):
    smaller = drop(network(causal, double=False), attention=[0, 2], mlp=[1], compensate=Calibration(text(), rank=rank))
    save(smaller, tmp_path / "out")
    again = load(tmp_path / "out", attention="sdpa")
    torch.testing.assert_close(logits(again.model, text), logits(smaller.model, text), rtol=0, atol=0)
    assert isinstance(again.model, transformers.PreTrainedModel)
    ids = torch.as_tensor(text(1, 4))
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 8, "do_sample": False}
    new = again.model.generate(ids, use_cache=True, **options)
    assert new.shape == (1, 12)
    assert torch.equal(new, again.model.generate(ids, use_cache=False, **options))
    assert torch.equal(new, smaller.model.generate(ids, use_cache=True, **options))
    for loader in (transformers.AutoModelForCausalLM, type(smaller.model)):
        with pytest.raises((ValueError, OSError)):
            loader.from_pretrained(tmp_path / "out")


def test_a_whole_network_is_saved_as_it_is(network, text, tmp_path):
    whole = network(double=False)
    save(whole, tmp_path / "out")
    assert not is_changed(tmp_path / "out")
    torch.testing.assert_close(logits(load(tmp_path / "out", attention="sdpa").model, text), logits(whole.model, text))


def as_bfloat16(model, folder):
    model.to(torch.bfloat16).save_pretrained(folder)
    return load(folder, attention="sdpa")


@pytest.mark.parametrize("compensate", [False, True])
def test_the_dtype_of_the_source_stays_on_disk_and_nothing_is_lost(network, text, compensate, tmp_path):
    """A network from bfloat16 files was written in float32, at twice its size."""
    whole = as_bfloat16(network(double=False).model, tmp_path / "source")
    assert (whole.model.dtype, whole.stored) == (torch.float32, torch.bfloat16)
    smaller = drop(whole, attention=[1], compensate=text() if compensate else None)
    save(smaller, tmp_path / "out")
    (path,) = (tmp_path / "out").glob("*.safetensors")
    weights = load_file(path)
    gains = {name for name in weights if ".self_attn.out." in name}
    assert len(gains) == 2 * compensate
    assert {weight.dtype for name, weight in weights.items() if name not in gains} == {torch.bfloat16}
    assert all(weights[name].dtype == torch.float32 for name in gains)
    again = load(tmp_path / "out", attention="sdpa")
    assert again.stored == torch.bfloat16
    assert of_network(again.model) == of_network(smaller.model)
    assert alike(logits(again.model, text), logits(smaller.model, text))
    if not compensate:
        assert path.stat().st_size == pytest.approx((tmp_path / "source" / "model.safetensors").stat().st_size, rel=0.1)
        plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
        assert plain.dtype == torch.bfloat16


def test_weights_that_the_dtype_of_the_source_does_not_hold_keep_their_own(network, text, tmp_path):
    whole = as_bfloat16(network(double=False).model, tmp_path / "source")
    whole.model.model.norm.weight.data.mul_(1 + 1e-6)
    save(whole, tmp_path / "out")
    assert {weight.dtype for weight in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.float32}
    again = load(tmp_path / "out", attention="sdpa").model
    assert of_network(again) == of_network(whole.model)
    assert alike(logits(again, text), logits(whole.model, text))


def test_damaged_directories_are_one_clear_line(network, text, tmp_path):
    smaller = drop(network(double=False), attention=[1], compensate=text())
    save(smaller, tmp_path / "out")
    with pytest.raises(ValueError, match="holds a checkpoint already"):
        save(smaller, tmp_path / "out")
    weights = tmp_path / "out" / "ctrlattn.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot read the weights"):
        open_changed(tmp_path / "out")
    weights.write_bytes(whole)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    config["network"]["ctrlattn"]["attention"]["2"] = 24
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"2 weights are missing in the file, the first is model.layers.2.self_attn"):
        open_changed(tmp_path / "out")
    (tmp_path / "out" / "config.json").unlink()
    with pytest.raises(ValueError, match="holds no network that was changed"):
        open_changed(tmp_path / "out")


def test_an_interrupted_save_leaves_nothing_that_loads(network, tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.torch.save_file", fails)
    with pytest.raises(KeyboardInterrupt):
        save(drop(network(), attention=[1]), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


SIZES = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
IDS = torch.arange(12)[None]


def llama(kind=transformers.LlamaForCausalLM, **more):
    torch.manual_seed(0)
    return kind(transformers.LlamaConfig(**SIZES, **more)).eval()


@pytest.mark.parametrize("kind", [transformers.LlamaForCausalLM, transformers.LlamaModel])
def test_a_compiled_and_a_headless_network_are_saved_as_what_they_are(kind, tmp_path):
    model = llama(kind)
    for name, given in (("plain", model), ("compiled", torch.compile(llama(kind), backend="eager"))):
        save(load(given), tmp_path / name)
        again = load(tmp_path / name).model
        assert type(again) is kind
        assert of_network(again) == of_network(model)
        assert alike(again(IDS)[0], model(IDS)[0])


def test_a_classifier_keeps_its_head(tmp_path):
    model = llama(transformers.LlamaForSequenceClassification, num_labels=1, pad_token_id=0)
    save(load(model), tmp_path / "m")
    again = transformers.LlamaForSequenceClassification.from_pretrained(tmp_path / "m")
    assert torch.equal(again.score.weight, model.score.weight)
    assert of_network(again) == of_network(model)
    assert alike(again(IDS).logits, model(IDS).logits)


def adapted(with_adapter):
    model = llama()
    model.model.layers[1].self_attn.v_proj = with_adapter(model.model.layers[1].self_attn.v_proj)
    return model


def parametrised(_):
    model = llama()
    torch.nn.utils.parametrizations.weight_norm(model.model.layers[0].mlp.up_proj)
    return model


def cut_by_hand(_):
    model = llama()
    model.model.layers = torch.nn.ModuleList([model.model.layers[i] for i in (0, 2)])
    return model


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (adapted, "it lacks model.layers.1.self_attn.v_proj.weight"),
        (parametrised, "it lacks model.layers.0.mlp.up_proj.weight"),
        (cut_by_hand, "it lacks model.layers.2"),
    ],
)
def test_what_is_no_network_of_its_configuration_is_refused_with_the_cure(make, word, with_adapter, tmp_path):
    """Each used to be written with zeros in the place of what was not found under its name."""
    with pytest.raises(ValueError, match=word) as refusal:
        save(load(make(with_adapter)), tmp_path / "m")
    assert "merge_and_unload" in str(refusal.value)
    assert not list((tmp_path / "m").glob("*"))


def _hooked(model):
    model.model.layers[0].mlp.register_forward_hook(lambda module, args, output: 3 * output)


def _patched(model):
    own = model.model.layers[0].mlp.forward
    model.model.layers[0].mlp.forward = lambda x: 3 * own(x)


def _renormed(model):
    model.model.layers[0].input_layernorm.variance_epsilon = 5.0


def _exchanged(model):
    model.model.layers[0].mlp.act_fn = torch.nn.ReLU()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (_hooked, "there is a hook in model.layers.0.mlp"),
        (_patched, "forward was replaced in model.layers.0.mlp"),
        (_renormed, "variance_epsilon is 5, and 1e-06 by the configuration"),
        (_exchanged, "a ReLU stands for a SiLU"),
    ],
)
def test_what_code_changed_is_refused_and_not_lost(change, word, tmp_path):
    """Such a network was saved, and another one came back: weights are written, and code is not."""
    model = llama()
    change(model)
    with pytest.raises(ValueError, match=word):
        save(load(model), tmp_path / "m")
    assert not list((tmp_path / "m").glob("*"))


def test_what_a_killed_save_left_goes_and_files_of_others_stay(network, causal, tmp_path, monkeypatch):
    # Every file of a directory without config.json was removed, whoever had put it there.
    (tmp_path / ".DS_Store").write_text("of a system")
    discard_unfinished(tmp_path)
    (tmp_path / "notes.txt").write_text("of somebody")
    with pytest.raises(InputError, match="holds files that no run of `drop` wrote"):
        discard_unfinished(tmp_path)
    smaller = drop(network(causal, double=False), attention=[0])
    with monkeypatch.context() as patch:
        patch.setattr("ctrlattn.checkpoints.network.save.readme", lambda *_, **__: 1 / 0)
        patch.setattr("ctrlattn.checkpoints.network.save.discard_unfinished", lambda _: None)  # as if it were killed
        with pytest.raises(ZeroDivisionError):
            save(smaller, tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    discard_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".DS_Store", "notes.txt"]
    save(smaller, tmp_path)
    whole = sorted(path.name for path in tmp_path.iterdir())
    assert ".ctrlattn.saving" not in whole
    (tmp_path / ".ctrlattn.saving").write_text("[]")  # killed after the last file
    discard_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == whole

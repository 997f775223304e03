"""What is saved loads again and computes the same; plain transformers computes the same or refuses."""

import json

import pytest
import torch
import transformers

from ctrlattn.checkpoints import Calibration, drop, is_changed, load, open_changed, save


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


@pytest.mark.parametrize("rank", [None, 4])
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

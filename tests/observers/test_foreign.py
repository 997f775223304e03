"""Dictionaries of other packages: equal reconstructions, by their equations and by the packages themselves."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import load_file, save_file  # noqa: E402  (after the skip)

from ctrlattn import PID, InputError, checkpoints  # noqa: E402
from ctrlattn.observers import Dictionary, read, require_place, save, write_sae_lens  # noqa: E402
from ctrlattn.observers.measures import curve, quality  # noqa: E402
from ctrlattn.observers.replacement import recover, replaced  # noqa: E402
from ctrlattn.observers.steering import Law, identify, steered  # noqa: E402

D, FEATURES = 6, 15


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + 17 * len(shape)))


X = 3 * random(40, D, seed=5) + 1


def weights(unit=True, threshold=False):
    W_dec = random(FEATURES, D, seed=1)
    lengths = torch.ones(FEATURES, 1) if unit else torch.linspace(0.5, 2, FEATURES)[:, None]
    W_dec = W_dec / W_dec.norm(dim=1, keepdim=True) * lengths
    some = {"W_enc": random(D, FEATURES, seed=2), "W_dec": W_dec, "b_enc": random(FEATURES), "b_dec": random(D)}
    return {**some, "threshold": random(FEATURES, seed=9).abs()} if threshold else some


def topk(z, k):
    values, places = z.topk(k, -1)
    return torch.zeros_like(z).scatter(-1, places, values.relu())


def plain(w, act, subtract, x=X):
    """The published equation, in float64."""
    w = {name: value.double() for name, value in w.items()}
    return act((x.double() - subtract * w["b_dec"]) @ w["W_enc"] + w["b_enc"]) @ w["W_dec"] + w["b_dec"]


def cut(threshold):
    return lambda r: r.relu() * (r > threshold.double())


def sae_lens_folder(folder, w, **about):
    folder.mkdir(exist_ok=True)
    save_file({name: value.contiguous() for name, value in w.items()}, folder / "sae_weights.safetensors")
    settings = {"d_in": D, "d_sae": FEATURES, "dtype": "float32", "normalize_activations": "none", **about}
    (folder / "cfg.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.mark.parametrize("subtract", [True, False])
@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("kind", ["standard", "topk", "jumprelu"])
def test_sae_lens_is_read(kind, unit, subtract, tmp_path):
    w = weights(unit, threshold=kind == "jumprelu")
    act = {"standard": torch.relu, "topk": lambda r: topk(r, 4), "jumprelu": cut(w.get("threshold", torch.zeros(1)))}
    about = {"architecture": kind, "apply_b_dec_to_input": subtract, **({"k": 4} if kind == "topk" else {})}
    dictionary, facts = read(
        sae_lens_folder(tmp_path, w, **about, metadata={"model_name": "m", "hook_name": "blocks.3.hook_resid_post"})
    )
    assert torch.allclose(dictionary(X).double(), plain(w, act[kind], subtract), atol=2e-5)
    assert facts == {"model": "m", "hook": "blocks.3.hook_resid_post", "layer": 4, "signal": "state"}
    if kind != "topk" or unit:
        assert torch.allclose(dictionary.decoder.norm(dim=1), torch.ones(FEATURES))


def test_topk_that_chooses_by_scaled_responses(tmp_path):
    w = weights(unit=False)
    lengths = w["W_dec"].double().norm(dim=1)
    folder = sae_lens_folder(tmp_path, w, architecture="topk", k=4, rescale_acts_by_decoder_norm=True)
    expected = plain(w, lambda r: topk(r * lengths, 4) / lengths, True)
    assert torch.allclose(read(folder)[0](X).double(), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("AutoEncoder", {}), ("AutoEncoderNew", {}), ("AutoEncoderTopK", {"k": 4}), ("BatchTopKSAE", {"k": 4}),
     ("JumpReluAutoEncoder", {})],
)  # fmt: skip
def test_dictionary_learning_is_read(kind, options, tmp_path):
    w = weights(threshold=True)
    state = {
        "encoder.weight": w["W_enc"].T.contiguous(), "decoder.weight": w["W_dec"].T.contiguous(),
        "encoder.bias": w["b_enc"],
    }  # fmt: skip
    act = torch.relu
    if kind == "JumpReluAutoEncoder":
        state, act = w, cut(w["threshold"])
    elif kind in ("AutoEncoderTopK", "BatchTopKSAE"):
        state |= {"b_dec": w["b_dec"], "k": torch.tensor(4), "threshold": torch.tensor(0.3)}
        act = cut(torch.tensor(0.3)) if kind == "BatchTopKSAE" else lambda r: topk(r, 4)
    else:
        state["bias" if kind == "AutoEncoder" else "decoder.bias"] = w["b_dec"]
    torch.save(state, tmp_path / "ae.pt")
    trainer = {"dict_class": kind, **options, "lm_name": "m", "submodule_name": "resid_post_layer_3", "layer": 3}
    (tmp_path / "config.json").write_text(json.dumps({"trainer": trainer}), encoding="utf-8")
    dictionary, facts = read(tmp_path)
    subtract = kind not in ("AutoEncoderNew", "JumpReluAutoEncoder")
    assert torch.allclose(dictionary(X).double(), plain(w, act, subtract), atol=2e-5)
    assert facts == {"model": "m", "hook": "resid_post_layer_3", "trained_at_layer": 3}
    library = pytest.importorskip("dictionary_learning.utils")
    assert torch.allclose(library.load_dictionary(str(tmp_path), "cpu")[0](X), dictionary(X), atol=2e-5)


def test_gemma_scope_is_read(tmp_path):
    w = weights(unit=False, threshold=True)
    np.savez(tmp_path / "params.npz", **{name: value.numpy() for name, value in w.items()})
    dictionary, _ = read(tmp_path / "params.npz")
    assert torch.allclose(dictionary(X).double(), plain(w, cut(w["threshold"]), False), atol=2e-5)


@pytest.mark.parametrize("kind", ["topk", "relu", "jumprelu"])
def test_ours_in_the_layout_of_sae_lens(kind, tmp_path):
    dictionary = Dictionary(D, FEATURES, k=4 if kind == "topk" else None, seed=3)
    dictionary.measure(X)
    with torch.no_grad():
        dictionary.bias.copy_(random(D))
        dictionary.threshold.copy_(random(FEATURES))
    if kind == "jumprelu":
        dictionary.jump = random(FEATURES).abs()
    write_sae_lens(tmp_path, dictionary, {"layer": 2, "signal": "mlp", "model": "m"})
    w, about = load_file(tmp_path / "sae_weights.safetensors"), json.loads((tmp_path / "cfg.json").read_text())
    act = {"topk": lambda r: topk(r, 4), "relu": torch.relu, "jumprelu": cut(w.get("threshold", torch.zeros(1)))}[kind]
    assert torch.allclose(plain(w, act, True).float(), dictionary(X), atol=1e-4)
    assert about["metadata"]["hook_name"] == "blocks.2.hook_mlp_out"
    back, facts = read(tmp_path)
    assert torch.allclose(back(X), dictionary(X), atol=1e-4)
    assert (facts["layer"], facts["signal"], facts["model"]) == (2, "mlp", "m")
    library = pytest.importorskip("sae_lens")
    theirs = library.SAE.load_from_disk(tmp_path)
    assert torch.allclose(theirs(X), dictionary(X), atol=1e-4)
    assert torch.allclose(theirs.encode(X), dictionary.encode(X), atol=1e-4)
    theirs.save_model(tmp_path / "again")
    assert torch.allclose(read(tmp_path / "again")[0](X), dictionary(X), atol=1e-4)


def test_our_files_are_read_with_their_jump(tmp_path):
    dictionary = Dictionary(D, FEATURES)
    dictionary.jump = random(FEATURES).abs()
    save(tmp_path / "a.safetensors", dictionary, {"layer": 1})
    back, facts = read(tmp_path / "a.safetensors")
    assert torch.equal(back(X), dictionary(X))
    assert not torch.equal(back(X), Dictionary(D, FEATURES)(X))
    assert facts == {"layer": 1}


def test_measures_take_a_foreign_dictionary(tmp_path):
    dictionary, _ = read(sae_lens_folder(tmp_path, weights(unit=False, threshold=True), architecture="jumprelu"))
    measured = quality(dictionary, X)
    assert measured.l0 == pytest.approx(float((dictionary.encode(X) > 0).double().sum(-1).mean()))


@pytest.mark.parametrize(
    ("about", "change", "words"),
    [
        ({"architecture": "gated"}, {}, r"SAELens \(.*cfg.json\) 'gated': known are standard, topk, jump"),
        ({"activation_fn": "tanh-relu"}, {}, r"activation of SAELens \(.*cfg.json\) 'tanh-relu': did you mean 'relu'"),
        ({"architecture": "topk"}, {}, "k must be a whole number"),
        ({"normalize_activations": "layer_norm"}, {}, "normalize_activations = 'layer_norm' changes each signal"),
        ({"reshape_activations": "hook_z"}, {}, "reshape_activations = 'hook_z'"),
        ({"d_in": 7}, {}, "cfg.json says signals of 7 elements, the weights 6"),
        ({}, {"b_enc": None}, "b_enc is missing"),
        ({}, {"r_mag": torch.ones(3)}, "r_mag has no equal here"),
        ({}, {"b_dec": torch.ones(3)}, r"are expected, got W_enc \(6, 15\)"),
        ({}, {"b_dec": torch.full((D,), torch.nan)}, "must be finite"),
        ({}, {"b_dec": torch.ones(D, dtype=torch.int64)}, "b_dec must be real floating-point numbers, got torch.int64"),
    ],
)
def test_what_is_no_dictionary_of_ours(about, change, words, tmp_path):
    w = {name: value for name, value in {**weights(), **change}.items() if value is not None}
    with pytest.raises(InputError, match=words):
        read(sae_lens_folder(tmp_path, w, **{"architecture": "standard", **about}))


def test_complex_weights_keep_their_imaginary_part_or_are_refused(tmp_path):
    try:
        folder = sae_lens_folder(tmp_path, {**weights(), "b_dec": torch.ones(D) * 1j}, architecture="standard")
    except KeyError:
        pytest.skip("this version of safetensors writes no complex numbers")
    with pytest.raises(InputError, match=r"b_dec must be real floating-point numbers, got torch.complex64"):
        read(folder)


def test_files_that_hold_no_dictionary(tmp_path):
    with pytest.raises(InputError, match=r"no dictionary: cfg\.json of SAELens or ae\.pt"):
        read(tmp_path)
    (tmp_path / "a.npz").write_bytes(b"hello")
    (tmp_path / "ae.pt").write_bytes(b"hello")
    (tmp_path / "config.json").write_text("{}")
    for name, words in {
        "a.npz": "not a .npz that can be read",
        "b.npz": "no such file",
        "": "it has no trainer",
    }.items():
        with pytest.raises(InputError, match=words):
            read(tmp_path / name)
    for trainer, words in (
        ({"dict_class": "GatedAutoEncoder"}, r"class of dictionary_learning \(.*config.json\) 'GatedAuto"),
        ({"dict_class": "AutoEncoder"}, "no weights that can be read"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({"trainer": trainer}))
        with pytest.raises(InputError, match=words):
            read(tmp_path)
    for content in (b"", b"\x80\x02junk", b"cposix\nsystem\n(S'true'\ntR."):
        (tmp_path / "ae.pt").write_bytes(content)
        with pytest.raises(InputError, match="no weights that can be read"):
            read(tmp_path)


def test_a_dictionary_of_another_place():
    facts = {"layer": 2, "signal": "mlp", "width": 6}
    require_place(facts, layer=2, signal="mlp", model="m", width=6)
    for place, words in (
        ({"layer": 3}, "is of layer 2, and is used at layer 3"),
        ({"signal": "state"}, "is of signal mlp, and is used at signal state"),
        ({"width": 8}, "is of width 6, and is used at width 8"),
    ):
        with pytest.raises(InputError, match=words):
            require_place(facts, **place)
    with pytest.raises(InputError, match="is for signals of 6 elements, got 8"):
        Dictionary(6, 12)(torch.ones(3, 8))


WIDE = 16  # of the tiny network


def wide_weights():
    shapes = {"W_enc": (WIDE, 24), "W_dec": (24, WIDE), "b_enc": (24,), "b_dec": (WIDE,)}
    return {name: random(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}


def in_layout(kind, folder, w):
    """(what to read, the equation of its reconstruction)"""
    if kind == "sae_lens":
        about = {"d_in": WIDE, "architecture": "standard", "metadata": {"hook_name": "blocks.1.hook_mlp_out"}}
        return sae_lens_folder(folder, w, **about), lambda x: plain(w, torch.relu, True, x)
    if kind == "gemma_scope":
        w = {**w, "threshold": random(24, seed=9).abs()}
        np.savez(folder / "params.npz", **{name: value.numpy() for name, value in w.items()})
        return folder / "params.npz", lambda x: plain(w, cut(w["threshold"]), False, x)
    state = {"encoder.weight": w["W_enc"].T.contiguous(), "decoder.weight": w["W_dec"].T.contiguous()}
    torch.save({**state, "encoder.bias": w["b_enc"], "bias": w["b_dec"]}, folder / "ae.pt")
    (folder / "config.json").write_text(json.dumps({"trainer": {"dict_class": "AutoEncoder"}}), encoding="utf-8")
    return folder, lambda x: plain(w, torch.relu, True, x)


LAYOUTS = ["sae_lens", "dictionary_learning", "gemma_scope"]


@pytest.mark.parametrize("kind", LAYOUTS)
def test_measures_and_the_recovered_loss_are_those_of_the_other_equation(kind, tiny, tmp_path):
    w = wide_weights()
    path, theirs = in_layout(kind, tmp_path, w)
    dictionary, _ = read(path)
    ids = np.random.default_rng(0).integers(40, size=(5, 12))
    recorded = [checkpoints.tap(tiny, row)["mlp_out"][1].to_numpy() for row in ids]
    signal = torch.as_tensor(np.concatenate(recorded), dtype=torch.float32)
    measured = quality(dictionary, signal)
    error = (signal.double() - theirs(signal)).square().sum()
    total = (signal.double() - signal.double().mean(0)).square().sum()
    assert measured.explained == pytest.approx(float(1 - error / total), rel=1e-4)
    assert measured.l0 == pytest.approx(float((dictionary.encode(signal) > 0).double().sum(-1).mean()))
    assert curve(dictionary, signal, [1])[0].l0 <= 1
    logits = []
    for function in (dictionary, lambda x: theirs(x).to(x)):
        with replaced(tiny, 1, "mlp", function), torch.no_grad():
            logits.append(tiny.model(torch.as_tensor(ids)).logits)
    assert torch.allclose(*logits, atol=1e-4)
    found = recover(tiny, dictionary, ids, 1, "mlp")
    assert found.mean != found.zero  # no training mean is known: that of the windows stands for it
    assert found.reconstructed != found.clean


@pytest.mark.parametrize("kind", LAYOUTS)
def test_steering_along_a_foreign_direction(kind, tiny, tmp_path):
    w = wide_weights()
    dictionary, _ = read(in_layout(kind, tmp_path, w)[0])
    f = w["W_dec"][3] / w["W_dec"][3].norm()
    ids = np.random.default_rng(1).integers(40, size=(2, 9))
    stream = checkpoints.tap(tiny, ids[0])["state"].to_numpy()
    with steered(tiny, dictionary.decoder[3], Law(PID(0.5)), 2.0) as outputs:
        tiny.model(torch.as_tensor(ids[:1]))
    c = torch.as_tensor(stream[0]) @ f
    assert torch.allclose(outputs[0][0][0], c[-outputs[0][0].shape[1] :], atol=1e-5)
    plants = [identify(tiny, direction, ids) for direction in (dictionary.decoder[3], f.numpy())]
    for a, b in zip(*plants, strict=True):
        assert a == pytest.approx(b, abs=1e-4)


def test_ours_is_steered_along_while_it_is_trained(tiny):
    """Its directions need a gradient, which numpy refuses."""
    dictionary = Dictionary(WIDE, 24)
    ids = np.random.default_rng(1).integers(40, size=(1, 9))
    a, b = (identify(tiny, f, ids).alpha for f in (dictionary.decoder[0], dictionary.decoder[0].detach().numpy()))
    assert a == pytest.approx(b, abs=1e-6)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_foreign_dictionary_of_another_width_or_place(kind, tiny, tmp_path):
    narrow = {name: value[..., :D] if name in ("W_dec", "b_dec") else value for name, value in wide_weights().items()}
    narrow["W_enc"] = narrow["W_enc"][:D]
    if kind == "sae_lens":
        dictionary, facts = read(sae_lens_folder(tmp_path, narrow, metadata={"hook_name": "blocks.1.hook_mlp_out"}))
        with pytest.raises(InputError, match="is of layer 1, and is used at layer 2"):
            require_place(facts, layer=2, signal="mlp")
        with pytest.raises(InputError, match="is of signal mlp, and is used at signal state"):
            require_place(facts, layer=1, signal="state")
    else:
        dictionary, _ = read(in_layout(kind, tmp_path, narrow)[0])
    ids = np.random.default_rng(1).integers(40, size=(2, 9))
    with pytest.raises(InputError, match="is for signals of 6 elements, got 16"):
        recover(tiny, dictionary, ids, 1, "mlp")
    with pytest.raises(InputError, match="is for signals of 6 elements, got 16"):
        quality(dictionary, torch.ones(3, WIDE))
    with (
        pytest.raises(InputError, match=r"a direction is \(16,\), finite and not zero; got \(6,\)"),
        steered(tiny, dictionary.decoder[0], Law(PID(0.5)), 1.0),
    ):
        pass

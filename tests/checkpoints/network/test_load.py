"""Load: every way in, and one clear line for everything that is no network."""

import json
import pickle
import shutil
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints  # noqa: E402  (after the skip)
from ctrlattn.checkpoints.network import families  # noqa: E402
from ctrlattn.checkpoints.network.describe import locate  # noqa: E402

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24}
TEXT = {"vocab_size": 40, **SIZES}
IDS = [3, 1, 4, 1, 5, 9]


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("llama")
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**TEXT)).save_pretrained(path)
    return path


@pytest.fixture
def broken(llama, tmp_path):
    """A copy to break."""
    return shutil.copytree(llama, tmp_path / "copy")


def configure(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_directory_gives_the_model_again(llama):
    loaded = checkpoints.load(llama)
    assert loaded.tokenizer is None
    assert (loaded.width, loaded.heads, loaded.causal, len(loaded.layers)) == (16, 4, True, 3)
    model = transformers.LlamaForCausalLM.from_pretrained(llama)
    again = checkpoints.load(model)
    assert_array_equal(checkpoints.tap(loaded, IDS)["state"], checkpoints.tap(again, IDS)["state"])


def test_a_tokenizer_beside_the_weights_is_read(broken):
    words = broken / "vocab.txt"
    words.write_text("\n".join(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *"abcdefghij"]))
    transformers.BertTokenizer(str(words)).save_pretrained(broken)
    assert checkpoints.tap(checkpoints.load(broken), "a b").sizes["token"] == 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_dtype_and_attention(llama, dtype, attention):
    model = checkpoints.load(llama, dtype=dtype, attention=attention).model
    assert model.dtype is getattr(torch, dtype)
    assert model.config._attn_implementation == attention


def test_a_decoder_saved_without_its_head_gets_no_random_one(tmp_path):
    transformers.LlamaModel(transformers.LlamaConfig(**TEXT)).save_pretrained(tmp_path)
    assert type(checkpoints.load(tmp_path).model).__name__ == "LlamaModel"


def test_a_hub_id_is_taken_from_the_local_cache(llama, tmp_path, monkeypatch):
    cache = tmp_path / "hub" / "models--org--name"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("0" * 40)
    shutil.copytree(llama, cache / "snapshots" / ("0" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    words = transformers.BertTokenizer(vocab={"[UNK]": 0, "a": 1})
    assert checkpoints.load("org/name", tokenizer=words).source == "org/name"


def test_images_need_no_tokenizer(tmp_path):
    transformers.ViTModel(transformers.ViTConfig(**SIZES, image_size=8, patch_size=4)).save_pretrained(tmp_path)
    assert not checkpoints.load(tmp_path).causal


def test_who_sees_only_what_was_before():
    bert = transformers.BertConfig(**TEXT, is_decoder=True)
    gemma = transformers.Gemma3TextConfig(**TEXT, num_key_value_heads=2, head_dim=4, use_bidirectional_attention=True)
    assert checkpoints.load(transformers.BertLMHeadModel(bert)).causal
    assert not checkpoints.load(transformers.Gemma3TextModel(gemma)).causal


def test_sublayers_of_one_kind(llama):
    checkpoint = checkpoints.load(llama)
    assert [sublayer.layer for sublayer in checkpoint.sublayers("mlp")] == [0, 1, 2]
    assert checkpoint.sublayers("attention")[2].norm is checkpoint.layers[2].input_layernorm
    with pytest.raises(ValueError, match="one of attention, mixer, cross, mlp"):
        checkpoint.sublayers("norm")


def one_line(source, word, **options):
    with pytest.raises(ValueError, match=word) as caught:
        checkpoints.load(source, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ("{", "JSON"),
        ("{}", "model_type"),
        ({"hidden_size": "x"}, "hidden_size"),
        ({"num_attention_heads": 3}, "multiple"),
        ({"num_hidden_layers": 5}, "says 5 layers, .* are of 3"),
        ({"hidden_size": 32}, r"\(40, 16\) in the file"),
        ({"num_hidden_layers": 2}, "says 2 layers, .* are of 3"),
        ({"num_hidden_layers": 10**6}, "says 1000000 layers, .* are of 3"),
        ({"num_hidden_layers": 0}, "no layer"),
        ({"model_type": "ctrl"}, "numbers as weights, the files hold"),
    ],
)
def test_a_configuration_that_does_not_fit(broken, config, word):
    if isinstance(config, str):
        (broken / "config.json").write_text(config)
    else:
        configure(broken, **config)
    one_line(broken, word)


@pytest.mark.parametrize("left", [0, 100, 0.5, 0.99])
def test_truncated_weights(broken, left):
    file = broken / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(left * len(whole)) if isinstance(left, float) else left])
    one_line(broken, "a damaged or incomplete file")


def test_missing_weights(broken):
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (broken / "model.safetensors").unlink()
    one_line(broken, "no file named model.safetensors")
    (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    one_line(broken, "model-00001-of-00002.safetensors")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "a damaged or incomplete file"),
        (b"no GGUF", "no GGUF file"),
        (b"GGUF" + bytes(40), "version 0"),
        (b"GGUF\x03\0\0\0" + b"\xff" * 40, "declares values and weights of [0-9]+ bytes, 24 are left"),
    ],
)
def test_a_damaged_gguf_file(broken, content, word):
    (broken / "config.json").unlink()
    (broken / "a.gguf").write_bytes(content)
    one_line(broken / "a.gguf", word)


def test_a_gguf_file_that_ends_early(tmp_path):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    for count in ("context_length", "embedding_length", "block_count", "feed_forward_length", "head_count"):
        getattr(writer, f"add_{count}")(2)
    writer.add_tensor("token_embd.weight", np.ones((64, 64), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    whole = (tmp_path / "a.gguf").read_bytes()
    (tmp_path / "a.gguf").write_bytes(whole[:-4096])
    one_line(tmp_path / "a.gguf", "a damaged or incomplete file")


def test_nan_weights_are_named(broken):
    model = transformers.LlamaForCausalLM.from_pretrained(broken)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, :2] = float("nan")
    one_line(model, r"layers.1.mlp.up_proj.weight is not finite in 2 of 384 values")
    model.save_pretrained(broken)
    one_line(broken, "layers.1.mlp.up_proj.weight")


def test_code_of_a_checkpoint_is_neither_run_nor_asked_for(broken, monkeypatch):
    def asked(prompt=""):
        raise AssertionError("transformers asks whether to run foreign code")

    monkeypatch.setattr("builtins.input", asked)
    (broken / "evil.py").write_text("raise SystemExit('executed')")
    configure(broken, model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"})
    one_line(broken, "never executed")
    assert "evil" not in sys.modules


def pickled(folder, shards=False):
    """The network of a directory in the format of torch; its safetensors file goes."""
    state = transformers.LlamaForCausalLM.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    if not shards:
        torch.save(state, folder / "pytorch_model.bin")
        return
    files = {name: f"pytorch_model-0000{1 + i % 2}-of-00002.bin" for i, name in enumerate(state)}
    for file in set(files.values()):
        torch.save({name: state[name] for name in files if files[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


@pytest.mark.parametrize("kind", ["safetensors", "torch", "torch shards", "torch before 1.6"])
def test_a_configuration_of_another_network_is_refused_before_a_weight_is_read(broken, kind, monkeypatch):
    if kind != "safetensors":
        pickled(broken, shards="shards" in kind)
    if "before" in kind:
        state = torch.load(broken / "pytorch_model.bin", weights_only=True)
        torch.save(state, broken / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert len(checkpoints.load(broken).layers) == 3

    def never(*_, **__):
        raise AssertionError("a weight was read")

    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", never)
    right = json.loads((broken / "config.json").read_text())
    for wrong, words in {
        ("num_hidden_layers", 5): "says 5 layers, the weights beside it are of 3",
        ("num_hidden_layers", 2): "says 2 layers, the weights beside it are of 3",
        ("vocab_size", 41): r"is \(40, 16\) in the file, its configuration wants \(41, 16\)",
        ("vocab_size", 10**8): r"wants \d+ numbers as weights, the files hold \d+",
        ("hidden_size", 20): r"in the file, its configuration wants",
        ("intermediate_size", 23): r"\b24\b.* in the file, its configuration wants .*\b23\b",
    }.items():
        configure(broken, **dict([wrong]))
        one_line(broken, words)
        configure(broken, **right)


def test_pickled_code_is_not_run(broken):
    class Evil:
        def __reduce__(self):
            return sys.exit, ("executed",)

    (broken / "model.safetensors").unlink()
    (broken / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Evil()}))
    one_line(broken, "never unpickled")


def test_no_such_source(tmp_path, llama):
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    for source, word in {
        tmp_path / "absent": "no such directory",
        tmp_path / "file.txt": ".gguf",
        tmp_path / "empty": "neither config.json",
        "some-org/not-in-the-cache": "--allow-download",
    }.items():
        one_line(source, word)
    one_line(llama, "float32, float64", dtype="float7")
    one_line(llama, "eager or sdpa", attention="flash")
    one_line(llama, "GGUF files: none", gguf_file="a.gguf")
    one_line(torch.nn.Linear(2, 2), "no transformers model")


def test_a_hidden_file_is_no_second_network(tmp_path):
    (tmp_path / "weights.gguf").write_bytes(b"GGUF")
    (tmp_path / "._weights.gguf").write_bytes(b"attributes of macOS")
    assert locate(str(tmp_path), None) == (str(tmp_path), "weights.gguf")


def test_a_type_without_a_row_is_traced(tmp_path):
    torch.manual_seed(0)
    opt = transformers.OPTModel(transformers.OPTConfig(**TEXT))
    in_memory = checkpoints.load(opt)
    opt.save_pretrained(tmp_path)
    assert type(checkpoints.load(tmp_path).model).__name__ == "OPTModel"
    assert (in_memory.family.name, in_memory.family.norm, in_memory.causal) == ("opt", "pre", True)
    assert [call.kinds for call in in_memory.structure.calls] == [("attention", "mlp")] * 3


def test_a_row_that_does_not_fit_says_what_is_not_there():
    wrong = checkpoints.FAMILIES["gpt2"]
    olmo = transformers.OlmoModel(transformers.OlmoConfig(**TEXT))
    one_line(olmo, "'gpt2' does not fit OlmoModel: OlmoModel has no h", family=wrong)


@pytest.mark.parametrize(
    ("name", "nearest"), [("lama", "llama"), ("gemma3text", "gemma3_text"), ("gptneox", "gpt_neox")]
)
def test_the_nearest_family_is_named(name, nearest):
    with pytest.raises(ValueError, match=f"did you mean '{nearest}'"):
        families.family_of(name)


@pytest.mark.parametrize("module", ["transformers", "safetensors", "accelerate"])
def test_a_missing_extra_says_what_to_install(llama, module, absent):
    absent(module)
    one_line(llama, rf'needs {module}: pip install "ctrlattn\[hf\]"$')


def test_a_gguf_file_needs_gguf(broken, absent):
    absent("gguf")
    (broken / "a.gguf").write_bytes(b"GGUF")
    one_line(broken / "a.gguf", r'needs gguf: pip install "ctrlattn\[hf\]"$')


def test_an_adapter_says_what_it_is_of_and_what_to_do(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "org/base"}')
    one_line(tmp_path, r"an adapter, .* \(org/base\): merge it with peft, model.merge_and_unload\(\)")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "quantised by GPTQ to 4 bits"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "quantised by bitsandbytes to 4 bits"),
        ({"quant_method": "awq", "bits": 4}, "quantised by AWQ to 4 bits"),
        ({"quant_method": "fp8"}, "quantised by fp8"),
        ("something", "quantised, and are not read"),
    ],
)
def test_quantised_weights_say_what_they_are(broken, settings, words):
    configure(broken, quantization_config=settings)
    one_line(broken, rf"{words}.*checkpoints.load\(model, tokenizer=tokenizer\)")


def test_a_reward_model_is_loaded_as_what_it_is(tmp_path):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**TEXT, num_labels=1, pad_token_id=0)
    model = transformers.LlamaForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path)
    loaded = checkpoints.load(tmp_path)
    assert type(loaded.model) is type(model)
    assert torch.equal(loaded.model.score.weight, model.score.weight)
    assert_array_equal(checkpoints.tap(loaded, IDS)["state"], checkpoints.tap(checkpoints.load(model), IDS)["state"])
    with pytest.raises(ValueError, match="does not predict the next token"):
        checkpoints.evaluate(loaded, [IDS])


class Wrapper(torch.nn.Module):
    def merge_and_unload(self):
        raise NotImplementedError


@pytest.mark.slow
def test_a_module_around_a_network_says_what_to_give(llama):
    model = transformers.LlamaForCausalLM.from_pretrained(llama)
    one_line(torch.nn.DataParallel(model), r"DataParallel: .* give the network inside, model\.module")
    one_line(Wrapper(), r"an adapter around a network: merge it, model\.merge_and_unload\(\)")
    with torch.device("meta"):
        one_line(
            transformers.LlamaForCausalLM(transformers.LlamaConfig(**TEXT)), "embed_tokens.weight is not in memory"
        )
    compiled = torch.compile(model, backend="eager")
    assert checkpoints.load(compiled).model is model  # hooks on compiled code would not be called


def test_offloaded_weights_are_said_to_be_so(llama):
    accelerate = pytest.importorskip("accelerate")
    model = transformers.LlamaForCausalLM.from_pretrained(llama)
    accelerate.cpu_offload(model, execution_device="cpu")
    one_line(model, "is not in memory .*offloaded by accelerate.*without device_map")


def test_a_network_without_sdpa_stays_eager(tmp_path):
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 4}
    more = {"num_key_value_heads": 2, "intermediate_size": 24, "num_local_experts": 2, "num_experts_per_tok": 1}
    rope = {"rope_type": "default", "rope_theta": 1e4}
    model = transformers.GptOssForCausalLM(transformers.GptOssConfig(**sizes, **more, rope_parameters=rope))
    model.save_pretrained(tmp_path)
    for source in (model, str(tmp_path)):
        assert checkpoints.load(source, attention="sdpa").model.config._attn_implementation == "eager"
    smaller = checkpoints.drop(checkpoints.load(model), attention=[1], compensate=np.arange(20).reshape(2, 10))
    folder = checkpoints.save(smaller, tmp_path / "smaller")
    assert checkpoints.load(str(folder), attention="sdpa").model.config._attn_implementation == "eager"


def test_the_device_is_judged_before_the_files_and_a_network_runs_there(tmp_path):
    with pytest.raises(ValueError, match="there is no device 'abacus' here"):
        checkpoints.load(tmp_path / "nothing", device="abacus")
    config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    network = checkpoints.load(tmp_path, device="cpu", dtype="float64")
    assert network.model.device == torch.device("cpu")
    assert network.model.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), -float("inf")])
def test_a_weight_is_finite_where_torch_says_so(dtype, bad):
    from ctrlattn.checkpoints.network.load import _finite

    for place in (0, 7, 15):
        weight = torch.randn(4, 4, generator=torch.Generator().manual_seed(place))
        if bad is not None:
            weight.view(-1)[place] = bad
        assert _finite(weight.to(dtype)) == (bad is None)

"""Refusals come first: what arguments, configuration and headers show is said before a weight or an image is read.

Nothing here can load a weight: the function that would do it fails the test. A refusal is one line and exit code 2, and
it leaves no folder behind.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from ctrlattn.checkpoints.network.describe import describe  # noqa: E402
from ctrlattn.cli import app  # noqa: E402
from ctrlattn.nn.experiment import comparison  # noqa: E402
from ctrlattn.report.pages.loops import page  # noqa: E402

SIZES = {"hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
WORDS = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]

PLANS = {
    "plan-arm": 'arms = ["softmx"]',
    "plan-key": 'armss = ["softmax"]',
    "plan-rate": 'arms = ["softmax"]\nrates = {softmax = -1}',
    "plan-seeds": 'arms = ["softmax"]\nseeds = [0, 0]',
    "plan-width": 'arms = ["softmax"]\nsettings = {dim = 32}',
    "plan-test": 'arms = ["softmax"]\n[[tests]]\narm = "softmax"\nscore = "clean"\ndirection = "up"',
    "plan-brackets": "[[[",
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Directories of a decoder, an encoder with 16 positions, a scorer, images, and a decoder without a tokenizer."""
    folder = tmp_path_factory.mktemp("sources")
    torch.manual_seed(0)
    text = {"vocab_size": len(WORDS), **SIZES}
    llama = transformers.LlamaConfig(**text, pad_token_id=1)
    networks = {
        "decoder": transformers.LlamaForCausalLM(llama),
        "encoder": transformers.BertModel(transformers.BertConfig(**text, max_position_embeddings=16)),
        "scorer": transformers.LlamaForSequenceClassification(llama),
        "images": transformers.ViTModel(transformers.ViTConfig(**SIZES, image_size=8, patch_size=4)),
        "wordless": transformers.LlamaForCausalLM(llama),
    }
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    for name, model in networks.items():
        model.save_pretrained(folder / name)
        if name not in ("images", "wordless"):
            transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(
                folder / name
            )
    (folder / "long.txt").write_text("a b c d e f g h i j\n" * 400)
    (folder / "short.txt").write_text("a b c d e f g h i j\n" * 4)
    (folder / "bad.toml").write_text("[loop]\nskp = 1\n")
    for name, plan in PLANS.items():
        (folder / f"{name}.toml").write_text(f'data = "digits"\n{plan}\n')
    return folder


@pytest.fixture(autouse=True)
def _nothing_is_loaded(monkeypatch):
    def loaded(*_, **__):
        raise AssertionError("the work has begun")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", loaded)
    monkeypatch.setattr(comparison, "data_of", loaded)
    monkeypatch.setattr(page.folder, "write", loaded)


# command, then options that are wrong in this command, each with a word of the message
REFUSED = {
    "drop {sources}/decoder --text {sources}/long.txt": {
        "": "nothing to drop",
        "--attention 99": "there are 3 layers: 99 of attention cannot be dropped",
        "--mlp 4": "there are 3 layers: 4 of mlp cannot be dropped",
        "--blocks 3 --bare": "all 3 attention layers would be gone",
        "--layers 40": "layer must be one of 0 ... 2, got 40",
        "--layers 1 --layers -1": "layer must be one of 0 ... 2, got -1",
        "--layers 1 --attention 1": "leave out --attention",
        "--attention 1 --by luck": "got 'luck'",
        "--blocks 1 --by loss": "choose by importance",
        "--attention 1 --bare --memory": "a memory needs gains",
        "--attention 1 --tokens 100 --window 64": "windows of 64: at least 5 are needed",
        "--attention 1 --held-out abc --window 8": "windows of 8: at least 1 are needed",
    },
    "drop {sources}/encoder --text {sources}/long.txt": {
        "--attention 1": "BertModel does not predict the next token",
        "--attention 1 --bare": "BertModel does not predict the next token",
    },
    "drop {sources}/scorer --text {sources}/long.txt": {
        "--attention 1": "LlamaForSequenceClassification does not predict the next token",
    },
    "drop {sources}/wordless --text {sources}/long.txt": {"--attention 1": "a text needs a tokenizer"},
    "observe {sources}/decoder --text {sources}/long.txt": {
        "--layer 99": "layer must be one of 0 ... 2, got 99",
        "--layer -1": "layer must be one of 0 ... 2, got -1",
        "--layer 0 --signal attention": "unknown signal 'attention': known are state",
        "--layer 0 --k 9 --features 8": "k must be at most the number of features, 8, got 9",
        "--layer 0 --k 0": "needs a --penalty",
        "--layer 0 --features 100000000000": "does not fit into memory",
        "--layer 0 --penalty 1": "TopK has at most 32 features without one",
        "--layer 0 --k 0 --penalty nan": "penalty must be finite",
    },
    "observe {sources}/decoder --text {sources}/short.txt": {"--layer 0": "fewer than ten windows|too few"},
    "observe {sources}/encoder --text {sources}/long.txt": {
        "--layer 0 --signal mid": "pre-norm networks",
        "--layer 0 --context 17": "17 tokens at once, and the network has positions for 16",
    },
    "observe {sources}/images --text {sources}/long.txt": {"--layer 0": "reads images"},
    "observe {sources}/wordless --text {sources}/long.txt": {"--layer 0": "a text needs a tokenizer"},
    "observe {sources}/decoder --text {sources}/absent.txt": {"--layer 0": "no such file"},
    "analyze {sources}/decoder": {
        "--text a": "a text of one token has nothing to compare",
        "--text abc --tokens 1": "a text of one token has nothing to compare",
        "--text abc --parts gian": "unknown part 'gian': did you mean 'gain'",
    },
    "analyze {sources}/encoder": {"--text {sources}/long.txt": "256 tokens at once, and the network has positions"},
    "analyze {sources}/images": {"--text abc": "reads images"},
    "analyze {sources}/wordless": {"--text abc": "a text needs a tokenizer"},
    "report --checkpoint {sources}/decoder": {
        "": "needs at least one --text",
        "--text {sources}/absent.txt": "no such file",
        "--text abc -p neutrino": "did you mean 'neutreno'",
        "--text abc -c {sources}/bad.toml": "loop.skp",
    },
    "report --checkpoint {sources}/encoder": {"--text {sources}/long.txt": "the network has positions for 16"},
    "report --checkpoint {sources}/images": {"--text abc": "reads images"},
    "report --checkpoint {sources}/wordless": {"--text abc": "a text needs a tokenizer"},
    "train digits": {
        "--width 32": "dim must be a multiple of heads: 32 features, 3 heads",
        "--width 3000000": "does not fit into memory",
        "--depth 1000000000": "does not fit into memory",
        "--patch 3": "image must be a multiple of patch",
        "--norm leyer": "leyer",
        "--rate nan": "rate must be positive and finite",
        "--limit -1": "limit must be positive and finite",
        "--configs softmx": "did you mean 'softmax'",
        "--configs {sources}/bad.toml": "loop.skp",
        "--seeds 1 --data {sources}": "name one thing to train on",
        "--device gpu": "there is no device 'gpu' here",
    },
    "train --data {sources}/decoder": {"--image 30": "image must be a multiple of patch"},
    "simulate prediction-error": {
        "--tokens 1000000000": "does not fit into memory",
        "--features 1000000000": "does not fit into memory",
        "--layers 1000000000": "does not fit into memory",
    },
    "simulate softmax": {"--tokens 1000000 --features 1 --layers 1": "does not fit into memory"},
}  # fmt: skip
CASES = [(command, options, words) for command, some in REFUSED.items() for options, words in some.items()]


def invoke(sources, tmp_path, *words):
    arguments = [word.format(sources=sources) for word in words]
    if arguments[0] != "simulate":
        arguments += ["--out", str(tmp_path / "out")]
    return CliRunner().invoke(app, arguments)


def refusal(result, tmp_path):
    """The one line of a refusal; the output folder does not exist."""
    assert result.exit_code == 2, (result.exit_code, result.exception, result.stderr)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines() or [""]
    assert not (tmp_path / "out").exists()
    return line


@pytest.mark.parametrize(("command", "options", "words"), CASES, ids=lambda text: text.replace("{sources}/", ""))
def test_what_cannot_be_done_is_said_before_the_work(command, options, words, sources, tmp_path):
    line = refusal(invoke(sources, tmp_path, *command.split(), *options.split()), tmp_path)
    assert any(some in line for some in words.split("|")), line


# Judged by arguments, config.json and headers alone: to import torch and transformers takes 2.5 s of processor time.
WITHOUT_TORCH = """
drop {sources}/decoder --text {sources}/long.txt --layers 40
drop {sources}/decoder --text {sources}/long.txt --attention 99
drop {sources}/decoder --text {sources}/long.txt
drop {sources}/decoder --text {sources}/long.txt --blocks 1 --by loss
drop {sources}/scorer --text {sources}/long.txt --attention 1
drop {sources}/encoder --text {sources}/long.txt --attention 1
drop {sources}/wordless --text {sources}/long.txt --attention 1
observe {sources}/decoder --text {sources}/long.txt --layer 0 --signal attention
observe {sources}/decoder --text {sources}/long.txt --layer 99
observe {sources}/decoder --text {sources}/long.txt --layer 0 --k 9 --features 8
observe {sources}/encoder --text {sources}/long.txt --layer 0 --context 17
observe {sources}/decoder --text {sources}/long.txt --layer 0 --features 100000000000
observe {sources}/images --text {sources}/long.txt --layer 0
analyze {sources}/decoder --text abc --parts gian
analyze {sources}/images --text abc
analyze {sources}/wordless --text abc
analyze {sources}/quantised --text abc
analyze {sources}/adapter --text abc
analyze {sources}/million --text abc
analyze {sources}/mistyped --text abc
analyze {sources}/cut --text abc
analyze {sources}/nowhere --text abc
analyze no_such_network --text abc
loop {sources}/decoder --layers 7:9 --text {sources}/long.txt
loop {sources}/decoder --layers 0:2 --passes 0 --text {sources}/long.txt
report --checkpoint {sources}/images --text abc
simulate prediction-error --tokens 1000000000
train digits --width 32
train digits --width 3000000
train digits --depth 1000000000
train digits --patch 3
train digits --norm leyer
train digits --rate nan
train digits --limit -1
train digits --seeds 1 --data {sources}
train digts
train --data {sources}/decoder --image 30
train digits --configs softmx
train digits --configs softmax --configs softmax
train digits --configs softmax-learned
train digits --configs contranorm
train digits --configs {sources}/bad.toml
train digits --configs {sources}/nowhere.toml
train digits --first 9223372036854775807 --seeds 3
train digits --pid nan 0 0
train digits --pid 1 0 0 --form emma
train digits --device cpux
train digits --device cuda:x
train digits --device meta
train digits --dtype float16
train --plan {sources}/plan-arm.toml
train --plan {sources}/plan-key.toml
train --plan {sources}/plan-rate.toml
train --plan {sources}/plan-seeds.toml
train --plan {sources}/plan-width.toml
train --plan {sources}/plan-test.toml
train --plan {sources}/plan-brackets.toml
train --plan {sources}/nowhere.toml
train text --plan {sources}/plan-arm.toml
train loops
train loops --task prefix-sum
train loops --task prefix-sums --configs plan
train loops --task prefix-sums --configs plain --configs plain
train loops --task prefix-sums --rate nan
train loops --task prefix-sums --width 1000000000
train loops --task prefix-sums --depth 4
train loops --task prefix-sums --size 100000000000
train loops --task prefix-sums --batch 100000000000
train loops --task addition --size 1
train loops --task maze --size 4
train loops --task digits --size 9
train loops --task prefix-sums --first 9223372036854775807
train loops --task prefix-sums --device abacus
train loops --task prefix-sums --device meta
train loops --task prefix-sums --dtype half
analyze {sources}/decoder --text abc --device cpu --parts gian
analyze {sources}/decoder --text abc --device cpux
drop {sources}/decoder --text {sources}/long.txt --attention 1 --device cuda:-1
observe {sources}/decoder --text {sources}/long.txt --layer 0 --device tpu
loop {sources}/decoder --layers 0:2 --text {sources}/long.txt --device cuda:01
"""


# Judged by the number of tokens: transformers is imported for its tokenizers, which need no torch.
WITH_TOKENIZER = """
analyze {sources}/decoder --text a
analyze {sources}/decoder --text abc --tokens 1
analyze {sources}/encoder --text {sources}/long.txt
report --checkpoint {sources}/encoder --text {sources}/long.txt
observe {sources}/decoder --text {sources}/short.txt --layer 0
drop {sources}/decoder --text {sources}/long.txt --attention 1 --tokens 100 --window 64
drop {sources}/decoder --text {sources}/long.txt --attention 1 --held-out abc --window 8
loop {sources}/decoder --layers 0:2 --text {sources}/short.txt
"""


@pytest.fixture(scope="module")
def damaged(sources):
    """Beside `sources`: quantised weights, an adapter, a million layers, a layer count in words, a file cut short."""
    for name, change in {
        "quantised": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        "million": {"num_hidden_layers": 10**6},
        "mistyped": {"num_hidden_layers": "three"},
        "cut": {},
    }.items():
        shutil.copytree(sources / "decoder", sources / name)
        path = sources / name / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    weights = sources / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (sources / "adapter").mkdir()
    (sources / "adapter" / "adapter_config.json").write_text("{}")
    return sources


@pytest.mark.slow
def test_what_needs_no_network_module_is_told_without_torch(damaged, tmp_path):
    first, later = (told.format(sources=damaged).strip().splitlines() for told in (WITHOUT_TORCH, WITH_TOKENIZER))
    code = (
        "import json, sys\n"
        "from typer.testing import CliRunner\n"
        "from ctrlattn import devices\n"
        "from ctrlattn.cli import app\n"
        "devices._DRIVERS = ()\n"  # where there is a driver, torch is asked which devices it has
        "for command in json.loads(sys.argv[1]):\n"
        "    told = CliRunner().invoke(app, command.split())\n"
        "    heavy = [name for name in ('torch', 'transformers', 'scipy', 'control') if name in sys.modules]\n"
        "    print(json.dumps([command, told.exit_code, len(told.stderr.splitlines()), heavy]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([*first, *later])], capture_output=True, text=True, check=True,
        cwd=tmp_path, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    expected = [*([command, 2, 1, []] for command in first), *([command, 2, 1, ["transformers"]] for command in later)]
    assert [json.loads(line) for line in done.stdout.splitlines()] == expected


def test_a_missing_library_says_what_to_install(sources, tmp_path, absent):
    for module, extra, command in (
        ("plotly", "interactive", "report --interactive"),
        ("sklearn", "train", "train digits"),
        ("transformers", "hf", "analyze {sources}/decoder --text abc"),
        ("safetensors", "hf", "drop {sources}/decoder --text abc --attention 1"),
        ("accelerate", "hf", "observe {sources}/decoder --text {sources}/long.txt --layer 0"),
    ):
        absent(module)
        line = refusal(invoke(sources, tmp_path, *command.split()), tmp_path)
        assert line.endswith(f'pip install "ctrlattn[{extra}]"')


def test_a_new_user_without_the_extra_is_told_its_name(sources):
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('transformers', 'safetensors', 'accelerate', 'gguf')))\n"
        "from ctrlattn.cli import main\n"
        "main()"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, "analyze", str(sources / "decoder"), "--text", "abc"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 2
    assert told.stderr == 'ctrlattn: a checkpoint needs transformers: pip install "ctrlattn[hf]"\n'


def test_a_configuration_of_a_million_layers_is_held_to_the_weights(sources, tmp_path):
    config = json.loads((sources / "decoder" / "config.json").read_text())
    for file in (sources / "decoder").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 10**6}))
    line = refusal(invoke(sources, tmp_path, "analyze", str(tmp_path), "--text", "abc"), tmp_path)
    assert "config.json says 1000000 layers, the weights beside it are of 3" in line
    assert describe(sources / "decoder").layers == 3

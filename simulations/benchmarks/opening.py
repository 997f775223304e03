"""What opening a network costs: `trace` beside a forward pass of its eight tokens, `load` beside from_pretrained.

    python simulations/benchmarks/opening.py            # the size of SmolLM2-135M, random weights in a temporary folder
    python simulations/benchmarks/opening.py --once     # tiny, for CI

The passes are those of the network as loaded, in time of its processor, which other work does not take. A trace runs
the network once and follows layers alike once; it is also timed on networks whose layers are of several kinds, or have
factors that are weights. It then calls every layer again with another stream, to see what depends
on which token: the test of kinds, which is timed inside the trace. `load` is timed with a network that the table of
families has (it runs its row's sums on eight tokens), and with one that is traced, Phi-3 of the same size. Beside it
stand transformers' from_pretrained of the same files and one pass, which first brings the weights into memory. Each is
timed in a process of its own, what is imported late imported before. Memory is the highest resident set of that
process, less that before the call.
"""

import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paired import command, median_ms

ASKED_PASSES, ASKED_SECONDS = 2, 3
TURNS = 5


def worker(small: bool) -> list[dict[str, object]]:
    """Rows of both networks."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, model in networks(small).items():
            place = Path(folder) / name.partition(" ")[0]
            model.save_pretrained(place)
            del model
            rows.append(loading(name, place, small))
            rows.append(tracing(name, place, 1 if small else TURNS))
    for name, make in mixed(small).items():
        model = make().eval()
        model.config._experts_implementation = "eager"  # the grouped products of experts ask for aligned rows
        rows.append(tracing(name, model, 1 if small else TURNS))
    return rows


def networks(small: bool) -> dict[str, Any]:
    """A Llama as large as SmolLM2-135M, whose type has a row, and a Phi-3 of the same sizes, which is traced."""
    import torch
    import transformers

    sizes = {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
    tiny = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    words = {"vocab_size": 100, "intermediate_size": 48} if small else {"vocab_size": 49152, "intermediate_size": 1536}
    options = {**(tiny if small else sizes), **words, "pad_token_id": 0, "tie_word_embeddings": True}
    torch.manual_seed(0)
    return {
        "llama (by its row)": transformers.LlamaForCausalLM(transformers.LlamaConfig(**options)),
        "phi3 (traced)": transformers.Phi3ForCausalLM(transformers.Phi3Config(**options)),
    }


def mixed(small: bool) -> dict[str, Callable[[], Any]]:
    """Networks of several kinds of layers, of 24 layers and the width of SmolLM2."""
    import torch
    import transformers as t

    width, depth, words = (32, 12, 100) if small else (576, 24, 8192)
    sizes = {
        "hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": 4 if small else 8,
        "num_key_value_heads": 2, "vocab_size": words, "intermediate_size": width * 8 // 3, "pad_token_id": 0,
    }  # fmt: skip
    head = width // (4 if small else 8)
    experts = {"num_experts": 4, "num_experts_per_tok": 2}
    torch.manual_seed(0)
    windows = [*["sliding_attention"] * 5, "full_attention"] * (depth // 6)
    delta = {
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": head,
        "linear_value_head_dim": head, "moe_intermediate_size": width // 2,
        "shared_expert_intermediate_size": width // 2, "head_dim": head,
    }  # fmt: skip
    sizes_per_layer = {
        "head_dim": head, "global_head_dim": head, "num_kv_shared_layers": depth // 3, "layer_types": windows,
        "hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": words,
    }  # fmt: skip
    mamba = {"mamba_d_ssm": width, "mamba_n_heads": 8, "mamba_d_head": width // 8, "mamba_d_state": 32}
    convolutions = {"layer_types": ["conv", "conv", "full_attention"] * (depth // 3)}
    networks = {
        "jamba": lambda: t.JambaForCausalLM(t.JambaConfig(**sizes, **experts)),
        "qwen3_next": lambda: t.Qwen3NextForCausalLM(t.Qwen3NextConfig(**sizes, **experts, **delta)),
        "doge": lambda: t.DogeForCausalLM(t.DogeConfig(**sizes)),
        "gemma4_text": lambda: t.Gemma4ForCausalLM(t.Gemma4TextConfig(**sizes, **sizes_per_layer)),
        "falcon_h1": lambda: t.FalconH1ForCausalLM(t.FalconH1Config(**sizes, **mamba)),
        "lfm2": lambda: t.Lfm2ForCausalLM(t.Lfm2Config(**sizes, **convolutions)),
    }
    return networks


def tracing(name: str, source: Any, turns: int) -> dict[str, object]:
    """`trace` in forward passes of its eight tokens, without the test of kinds and with it."""
    import torch

    from ctrlattn import checkpoints
    from ctrlattn.checkpoints.trace import alike, run
    from ctrlattn.checkpoints.trace.eager import attention
    from ctrlattn.checkpoints.trace.inputs import short_inputs

    model = checkpoints.load(source).model if isinstance(source, Path) else source
    inputs = short_inputs(model, None)[0]
    passes, traces, tests = [], [], []
    judge, within = run.kinds_of, [0.0]

    def timed(*arguments: Any) -> Any:
        start = time.process_time()
        answer = judge(*arguments)
        within[0] += time.process_time() - start
        return answer

    run.kinds_of = alike.kinds_of = timed
    try:
        for _ in range(turns + 1):
            within[0] = 0.0
            with torch.no_grad(), attention(model, "eager"):
                passes.append(seconds_of(lambda: model(**inputs)))
            traces.append(seconds_of(lambda: checkpoints.trace(model)))
            tests.append(within[0])
    finally:
        run.kinds_of = alike.kinds_of = judge
    passes, traces, tests = (values[1:] for values in (passes, traces, tests))  # the first turn warms caches
    remainder = statistics.median(
        (trace - test) / alone for alone, trace, test in zip(passes, traces, tests, strict=True)
    )
    return {
        "what": f"{name}, trace", "plain (ms)": median_ms(passes), "opened (ms)": median_ms(traces),
        "test of kinds (ms)": median_ms(tests), "passes without it": float(f"{remainder:.3g}"),
        "asked": f"< {ASKED_PASSES} passes, < {ASKED_SECONDS} s",
    }  # fmt: skip


def loading(name: str, place: Path, small: bool) -> dict[str, object]:
    """`load` beside from_pretrained and one pass: time and memory, each in a process of its own."""
    import torch
    import transformers

    from ctrlattn import checkpoints

    def plainly(place: Path) -> Any:
        model = transformers.AutoModelForCausalLM.from_pretrained(place).eval()
        with torch.no_grad():  # before a pass, weights are in their file and not in memory
            return model(torch.arange(8)[None], use_cache=False)

    with tempfile.TemporaryDirectory() as folder:  # what is loaded late is loaded now
        networks(small=True)[name].save_pretrained(folder)
        checkpoints.load(folder)
    plain_runs, opening_runs = [], []
    for _ in range(1 if small else 3):
        plain_runs.append(apart(lambda: plainly(place)))
        opening_runs.append(apart(lambda: checkpoints.load(place)))
    (plain_seconds, less), (opening_seconds, more) = (
        [statistics.median(v) for v in zip(*a, strict=True)] for a in (plain_runs, opening_runs)
    )
    milliseconds = {"plain (ms)": median_ms([plain_seconds]), "opened (ms)": median_ms([opening_seconds])}
    megabytes = {"plain (MB)": round(less / 1e6, 1), "opened (MB)": round(more / 1e6, 1)}
    return {"what": f"{name}, load", **milliseconds, **megabytes}


def seconds_of(call: Callable[[], object]) -> float:
    """Of the processor."""
    start = time.process_time()
    call()
    return time.process_time() - start


def apart(call: Callable[[], object]) -> tuple[float, float]:
    """(Seconds of the processor, bytes of memory) that a call takes in a process of its own."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)

    def measured() -> None:
        start_memory = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        seconds = seconds_of(call)
        sender.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - start_memory))

    process = fork.Process(target=measured)
    process.start()
    answer: tuple[float, float] = receiver.recv()
    process.join()
    return answer


if __name__ == "__main__":
    command(__file__, __doc__, worker, threads=(1,))

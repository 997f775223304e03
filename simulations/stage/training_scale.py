"""6 x multiply-adds x images x epochs: what one run on ImageNet would take, as a section of docs/training.md."""

from textwrap import fill

from ctrlattn.nn.experiment.settings import DIRECTORY

SCALE = """## At your scale

A directory of images can take the place of `digits`. The sizes are then those of DeiT-tiny on ImageNet: depth {depth},
width {dim}, {heads} heads, patch 16, 224 pixels, {epochs} epochs, batch {batch}, rate {rate}, stochastic depth
{drop_path}. `DIR` holds `train/<class>/` and `val/<class>/` as ImageNet is unpacked (val is the test part, and one
training image in fifty validates), or `<class>/` alone. Under `torchrun` the processes share every batch, and the run
is that of one process except for the samples that stochastic depth leaves out. An interrupted comparison continues run
by run.

```bash
torchrun --nproc-per-node 8 --no-python ctrlattn train --data DIR --configs softmax --configs pidformer-ema --seeds 1
ctrlattn train --data DIR --image 32 --patch 4 --depth 8 --width 48 --batch 64 --epochs 20   # a small directory
```

Two processes on a CPU, over gloo, were tested against one. The first command has not been run, and no GPU has been
used; the following is an estimate. One image takes {image} G multiply-adds: each of {tokens} tokens takes, per layer,
12 d² for the linear maps and 2 n d for attention. A training step is three times the forward pass, and a multiply-add
is two operations, so that one run takes 6 × {image} G × {images} images × {epochs} epochs = {total} × 10¹⁸ operations.
We guess that one large GPU does {per_second} × 10¹² operations per second in float32. One run then takes {hours} hours
on one GPU and {on_eight} on eight, without the reading of images. Each GPU would need {decoded} decoded images per
second, which is more than the eight threads of a process can be expected to decode unless images are stored small.
Five arms and ten seeds are fifty runs. The test of a run is 50,000 images × 49 forward and 35 backward passes (noise,
FGSM, PGD) in one process.

DeiT's recipe has several steps that are missing here: RandAugment, mixup, cutmix, random erasing, label smoothing,
averaged weights, and mixed precision. The warm-up over a tenth of the steps is a choice of this package. Published
accuracies are therefore not to be expected: the command measures differences between laws under equal conditions.
"""


def multiply_adds(depth, dim, tokens, patch=16, ratio=4):
    """Multiply-adds for one image: patches; per layer qkv and proj (4 d^2), MLP (2 ratio d^2), attention (2 n d)."""
    layer = tokens * ((4 + 2 * ratio) * dim**2 + 2 * tokens * dim)
    return (tokens - 1) * 3 * patch**2 * dim + depth * layer


def scale_lines():
    """The section: cost of the ImageNet configuration, with its arithmetic."""
    images, epochs, tokens, rate = 1_281_167, DIRECTORY["epochs"], (224 // 16) ** 2 + 1, 20e12
    image = multiply_adds(DIRECTORY["depth"], DIRECTORY["dim"], tokens)
    total = 6 * image * images * epochs
    hours = total / rate / 3600
    decoded = images * epochs / 3600 / hours
    constants = {
        name: f"{DIRECTORY[name]:g}" for name in ("depth", "dim", "heads", "epochs", "batch", "rate", "drop_path")
    }
    text = SCALE.format(
        **constants, image=f"{image / 1e9:.2f}", tokens=tokens, images=f"{images:,}", total=f"{total / 1e18:.1f}",
        per_second=f"{rate / 1e12:.0f}", hours=f"{hours:.0f}", on_eight=f"{hours / 8:.0f}", decoded=f"{decoded:,.0f}",
    )  # fmt: skip
    return "\n\n".join(part if part.startswith(("##", "```")) else fill(part, 120) for part in text.split("\n\n"))

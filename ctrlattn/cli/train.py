"""The command `ctrlattn train`: train several attention laws alike, attack them, and compare them by seed."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ctrlattn.cli.options import Formats, Gains, LawOfGains, Numbers, network_options, pid_of, require_no_path
from ctrlattn.cli.terminal import AsJSON, one_line_errors, print_json, show_path, show_progress
from ctrlattn.errors import InputError, require_installed

EXAMPLES = (
    "Examples:  ctrlattn train digits   |   ctrlattn train digits --configs softmax --configs pidformer-ema "
    "--seeds 10   |   ctrlattn train digits --configs pidformer-ema --configs pidformer-ema-learned   |   "
    "ctrlattn train digits --configs softmax --pid 0.4 0.1 0 --form ema   |   "
    "ctrlattn train --plan simulations/configs/train_digits.toml --out here   |   "
    "ctrlattn train loops --task prefix-sums --seeds 3 --out loops   |   "
    "torchrun --nproc-per-node 8 --no-python ctrlattn train --data imagenet --seeds 1"
)


def train(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[digits|mnist5k|text|loops]",
            help="Data to train on, unless --data or --plan names it; loops trains looped networks on --task.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Directory of images: <class>/ in it, or train/<class>/ and val/<class>/."),
    ] = None,
    configs: Annotated[
        list[str] | None,
        typer.Option(
            "--configs",
            help="Arm: a preset (also with -learned, -learned-each, -saturated or -scheduled), a relative, or a "
            "TOML file; repeatable; the first is the reference.",
        ),
    ] = None,
    pid: Gains = None,
    form: LawOfGains = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds, from --first on.")] = None,
    first: Annotated[int, typer.Option(min=0, help="First seed.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory to write to; a rerun continues there.")] = Path(
        "train"
    ),
    plan: Annotated[
        Path | None,
        typer.Option("--plan", help="TOML file with data, arms, seeds, settings and the tests fixed beforehand."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data.")] = None,
    depth: Annotated[int | None, typer.Option(min=1, help="Number of layers.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Features per token.")] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    norm: Annotated[str | None, typer.Option(help="Norm of the blocks: layer, rms or none.")] = None,
    depth_scaled: Annotated[
        bool | None, typer.Option("--depth-scaled", help="Multiply initial output weights by 1/sqrt(2 depth).")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Inputs per step, over all processes.")] = None,
    patch: Annotated[int | None, typer.Option(min=1, help="Side of a patch in pixels.")] = None,
    limit: Annotated[float | None, typer.Option(help="Largest |u| of an arm with -saturated; default: 1.")] = None,
    image: Annotated[
        int | None, typer.Option(min=1, help="Side in pixels to which images of --data are scaled.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Of loops: prefix-sums, addition, maze or digits.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of loops: steps of training; default: 450.")] = None,
    passes: Annotated[
        int | None, typer.Option(min=2, help="Of loops: passes of training; default: of the task.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Of loops: size of a problem; default: of the task.")] = None,
    device: Annotated[
        str | None, typer.Option(help="Device; default: the GPU for --data where there is one, else cpu.")
    ] = None,
    dtype: Numbers = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes of one thread, one per run; default: 2, with --data 1.")
    ] = None,
    formats: Formats = None,
    as_json: AsJSON = False,
) -> None:
    """Train several attention laws alike, attack them, and compare them seed by seed.

    It writes runs/ (one file per run, so that an interrupted comparison continues), weights/ (safetensors),
    comparison.json, table.md and comparison.png. By default the arms are softmax twice, NeuTRENO, both PIDformer laws
    and the comparator, with five seeds. Gains of --pid are one more arm, whose file --out keeps. With --data the sizes
    are those of DeiT-tiny on ImageNet. Under torchrun the processes share every batch.

    `train loops --task NAME` trains small looped networks instead, three seeds by default, and writes a page: accuracy
    against passes up to 8 times those of training, what the poles forecast, and what controllers keep. Its plan and its
    forecasts are written before what they are about.
    """
    with one_line_errors():
        from ctrlattn import devices, tables
        from ctrlattn.files import claim

        format_names = tables.require_formats(formats or ())
        law = pid_of(pid, form)
        if device is not None:
            devices.require_device(device)
        network_options(None, dtype)
        if name == "loops" or task is not None:
            loop_options = {
                "data": data, "plan": plan, "pid": pid, "epochs": epochs, "norm": norm, "depth-scaled": depth_scaled,
                "patch": patch, "limit": limit, "image": image,
            }  # fmt: skip
            _refuse_others(name, loop_options)
            sizes = {
                "layers": depth, "dim": width, "rate": rate, "batch": batch, "steps": steps,
                "passes": passes, "size": size, "dtype": dtype,
            }  # fmt: skip
            loops = _loops(task, configs, seeds, first, out, sizes, workers, device or "cpu", format_names)
            if as_json:
                print_json(loops)
            else:
                show_path(out / "report.html")
            return
        if any(each is not None for each in (steps, passes, size)):
            raise InputError("--steps, --passes and --size are options of `train loops`")
        sources = sum(each is not None for each in (name, data))
        if sources > 1 or (sources == 0 and plan is None):
            raise InputError("name one thing to train on: digits, mnist5k, text, --data DIR or --plan")
        source = str(name if data is None else data) if sources else None
        _require_beside(out, data)
        require_installed("training", "safetensors", *(["sklearn"] if name == "digits" else []))
        if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun starts one writes
            claim(out)
        changes = {
            "epochs": epochs,
            "depth": depth,
            "dim": width,
            "rate": rate,
            "norm": norm,
            "depth_scaled": depth_scaled,
            "batch": batch,
            "patch": patch,
            "limit": limit,
            "image": image,
            "dtype": dtype,
        }
        settings = {name: value for name, value in changes.items() if value is not None}
        if plan is not None and (configs or law or seeds or first or settings):
            raise InputError("--plan fixes arms, seeds and settings beforehand: leave out the options for them")

        from ctrlattn.nn.experiment import plan as plans
        from ctrlattn.nn.experiment.arm_names import names
        from ctrlattn.nn.experiment.settings import SIZES, without_default

        if plan is not None:
            comparison_plan = plans.read_plan(plan, source)
        else:
            arms = tuple(configs or plans.ARMS)
            for arm in arms:
                if not arm.endswith(".toml"):
                    require_no_path(arm, names(), "give the name of an arm, such as softmax, or a file, FILE.toml")
            numbers = tuple(range(first, first + (5 if seeds is None else seeds)))
            fixed: dict[str, Any] = {"seeds": numbers, "against": arms[0], "settings": without_default(settings)}
            comparison_plan = plans.plan_of(str(source), arms=arms, **fixed)
        plans.require_room(comparison_plan)
        if device is not None:
            devices.require_here(device)

        from ctrlattn.nn.experiment import comparison, table  # torch

        comparison.require_networks(comparison_plan)
        if law is not None:  # its file is written once all else has been judged
            comparison_plan = plans.plan_of(str(source), arms=(*arms, str(_file_of_gains(out, law))), **fixed)

        from ctrlattn.plots import save
        from ctrlattn.plots.training import compared

        shipped = comparison_plan.data in SIZES
        where = device or ("cpu" if shipped else None)
        workers = workers or (_workers_on(where) if shipped else 1)
        result = comparison.compare(comparison_plan, out, show_progress, workers=workers, device=where)
        if result is None:  # not the first of the processes that torchrun started
            return
        table.write(out / "table.md", result)
        save(compared(result, table.shown(result)), out / "comparison")
        tables.export(out / "comparison.nc", table.to_xarray(result), format_names)
        if as_json:
            print_json(result)
        else:
            typer.echo("\n".join(table.lines(result)))
            show_path(out / "comparison.json")


def _workers_on(device: str | None) -> int:
    """Return the number of processes by default: several share the work of small networks on the cpu alone."""
    return 2 if device is not None and device.partition(":")[0] == "cpu" else 1


def _require_beside(out: Path, data: Path | None) -> None:
    """Raise InputError where the output lies among the classes of images: its runs/ would be a class next time."""
    if data is None:
        return
    parts = [data / name for name in ("train", "val")]
    if any(
        out.resolve().is_relative_to(part.resolve()) for part in (parts if all(p.is_dir() for p in parts) else [data])
    ):
        raise InputError(f"--out {out} lies in the images of --data {data}: give a directory beside them")


def _file_of_gains(out: Path, law: Any) -> Path:
    """Write the file of the arm that --pid asks for: values under these gains, named by them."""
    from dataclasses import replace

    from ctrlattn import config, presets
    from ctrlattn.files import atomic

    gains = "-".join(f"{gain!r}" for gain in (law.kp, law.ki, law.kd))
    file = out / f"pid-{gains}-{law.form}.toml"
    with atomic(file) as path:
        path.write_text(config.dumps(replace(presets.get("pidformer-printed"), controller=law)), encoding="utf-8")
    return file


def _refuse_others(name: str | None, loop_options: dict[str, Any]) -> None:
    """Raise InputError where options of loops and of other networks meet."""
    if name != "loops":
        raise InputError("--task is an option of `train loops`")
    for option, value in loop_options.items():
        if value is not None:
            raise InputError(f"--{option} is no option of `train loops`: leave it out")


def _loops(
    task: str | None,
    arms: list[str] | None,
    seeds: int | None,
    first: int,
    out: Path,
    sizes: dict[str, Any],
    workers: int | None,
    device: str,
    formats: tuple[str, ...],
) -> dict[str, Any]:
    """Train loops, write table.md, comparison.json and the page, and return the result of the comparison."""
    from ctrlattn import devices
    from ctrlattn.files import claim

    if task is None:
        raise InputError("loops are trained on a task: --task prefix-sums, addition, maze or digits")
    require_installed("training", "safetensors", *(["sklearn"] if task == "digits" else []))
    devices.require_here(device)

    from ctrlattn.nn.experiment.loop_arms import DEFAULT
    from ctrlattn.nn.experiment.loop_plan import loop_plan
    from ctrlattn.nn.experiment.settings import without_default

    numbers = tuple(range(first, first + (3 if seeds is None else seeds)))
    settings = without_default({name: value for name, value in sizes.items() if value is not None})
    plan = loop_plan(task, seeds=numbers, arms=tuple(arms or DEFAULT), **settings)
    claim(out)

    from ctrlattn.nn.experiment import loop_comparison, table  # torch
    from ctrlattn.report.pages.trained_loops import write_trained_loops

    result = loop_comparison.compare_loops(
        plan, out, show_progress, workers=workers or _workers_on(device), device=device
    )
    table.write(out / "table.md", result)
    write_trained_loops(out, result, formats=formats)
    return result

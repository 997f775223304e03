"""Every test that asks for `xp` runs on numpy and on torch; no test may change global state."""

import gc
import random
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# No test fails by chance: the limits for an example and for drawing it are ones of time, and every run draws the same.
# `--hypothesis-profile fresh` draws others.
settings.register_profile("busy", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fresh", deadline=None, derandomize=False, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

PNG = b"\x89PNG\r\n"
SVG = '<svg xmlns="http://www.w3.org/2000/svg"></svg>'


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collecting makes many objects and no garbage: the garbage collector looks at none of them, now or later.

    Tests make few cycles and many objects, of syntax trees, modules and pictures: it looks for rubbish after 20,000 new
    ones and not after 700, which takes a fifth of the time of such tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(20_000, 5, 5)
        gc.enable()


def pytest_configure(config):
    """Where a run is of all tests, one process of two collects the last folder first, and rewrites asserts meanwhile.

    Both looked at the same file at the same time, and in a fresh clone each did all of that work.
    """
    if _collects_backwards(config):
        config.args.reverse()


def _collects_backwards(config):
    odd = getattr(config, "workerinput", {}).get("workerid", "gw0").endswith(("1", "3", "5", "7", "9"))
    return odd and sorted(Path(argument).name for argument in config.args) == sorted(config.getini("testpaths"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """A process that runs tests for another sends no keywords of a test that passed: nobody reads them."""
    report = yield
    if report.passed and hasattr(item.config, "workerinput"):
        report.keywords = {}
    return report


# Examples of functions that write a page or train: a decorator cannot mark them, and tests of their own cover them.
SLOW_EXAMPLES = {
    "ctrlattn.report.pages.repeated.write_repeated", "ctrlattn.report.pages.reduction.write_drop",
    "ctrlattn.checkpoints.measure.loop_study.loop_study", "ctrlattn.report.pages.sweep.write_sweep",
}  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark slow examples as slow tests are, and put what was collected backwards into its order again."""
    if _collects_backwards(config):
        places = [Path(argument).name for argument in reversed(config.args)]
        items.sort(key=lambda item: places.index(item.nodeid.partition("/")[0]))
    for item in items:
        if item.name in SLOW_EXAMPLES:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """A network that a test makes without a seed is the same whatever ran before, in this worker or in another."""
    import torch

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (libraries draw from it)
    torch.manual_seed(0)


@pytest.fixture(params=["numpy", "torch"])
def xp(request):
    """The library under test, one of the two array kinds."""
    return pytest.importorskip(request.param)


@pytest.fixture(autouse=True)
def _nothing_global():
    """A test leaves numpy's error handling, torch's default dtype and the handlers of signals as it found them.

    A program that ends gives signals back to the system, so that handlers are restored: a later interrupt of a test
    would end the worker that runs it.
    """
    import torch

    before = (np.geterr(), torch.get_default_dtype(), torch.is_grad_enabled())
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert (np.geterr(), torch.get_default_dtype(), torch.is_grad_enabled()) == before


@pytest.fixture(scope="session")
def whole_words():
    """whole_words(words): a tokenizer that numbers them in their order; an unknown word is taken for the first."""
    tokenizers, transformers = pytest.importorskip("tokenizers"), pytest.importorskip("transformers")

    def of(words):
        vocabulary = {word: i for i, word in enumerate(words)}
        plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=words[0]))
        plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        return transformers.PreTrainedTokenizerFast(tokenizer_object=plain, unk_token=words[0])

    return of


def _undraw(patch):
    from matplotlib.figure import Figure

    from ctrlattn.plots import layout

    def savefig(self, path, **options):
        if hasattr(path, "write"):
            path.write(SVG)
        else:
            Path(path).write_bytes(PNG if Path(path).suffix == ".png" else SVG.encode())

    patch.setattr(Figure, "savefig", savefig)
    patch.setattr(layout, "_SOLUTIONS", 0)


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made, and written as empty ones: layout and drawing take most of the time that a page takes.

    For tests of words and numbers; what the figures show has tests of its own in tests/plots.
    """
    _undraw(monkeypatch)


@pytest.fixture(scope="module")
def undrawn_file():
    """The same for all tests of a file and what its fixtures write."""
    with pytest.MonkeyPatch.context() as patch:
        _undraw(patch)
        yield


@pytest.fixture(scope="session")
def vectors_alone():
    """vectors_alone(): a block in which PNG files are written as empty ones; what is compared there is the SVG."""
    from matplotlib.figure import Figure

    draw = Figure.savefig

    def savefig(self, path, **options):
        if str(path).endswith(".png"):
            Path(path).write_bytes(PNG)
        else:
            draw(self, path, **options)

    @contextmanager
    def block():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Figure, "savefig", savefig)
            yield

    return block


@pytest.fixture(scope="module")
def laid_out_once():
    """Pictures keep the first layout of matplotlib; that panels come to rest has tests in tests/plots."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ctrlattn.plots.layout._SOLUTIONS", 0)
        yield


@pytest.fixture(scope="module")
def few_dots():
    """PNG files of 40 dots an inch in place of 160, for tests that ask whether a picture is drawn at all."""
    from ctrlattn.plots import style

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(style._RC, "savefig.dpi", 40)
        yield


@pytest.fixture(scope="module")
def short_search():
    """The search of `tune` ends early, for tests of what is done with gains; what it finds has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ctrlattn.design.tuning._Problem.search.__defaults__", (None, 4))
        yield


@pytest.fixture(scope="module")
def one_problem():
    """Spectra of trained loops are measured at one problem of three, and basins from one start of eight.

    What they forecast, and what a basin is, has tests of its own.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ctrlattn.nn.experiment.loop_forecast.PROBLEMS", 1)
        patch.setattr("ctrlattn.nn.experiment.loop_beyond._STARTS", 1)
        yield


@pytest.fixture(scope="module")
def coarse_search():
    """Pages of loops whose designed gains are of a coarse search, for tests of what else stands on them."""
    from ctrlattn.report.pages.loops import design

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(design, "FIRST", design.FIRST[::8])
        patch.setattr(design, "DRAWS", 10)
        patch.setattr(design, "MODES", 4)
        patch.setattr(design, "refine_slices", lambda first, regions, slices_of: (first, regions))
        yield


@pytest.fixture
def coarse(coarse_search, undrawn):
    """A page of loops of a coarse search and without drawings."""


@pytest.fixture
def absent(monkeypatch):
    """absent(module): importing it fails from now on, as where it is not installed."""
    return lambda module: monkeypatch.setitem(sys.modules, module, None)

"""Several processes: what each takes, and that two over gloo find what one finds, through the command."""

import json
import os
import socket

import numpy as np
import numpy.testing as npt
import pytest
import small_commands
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

from ctrlattn.cli import app  # noqa: E402  (after the skip)
from ctrlattn.nn.experiment import data_parallel  # noqa: E402

PLAN = """
arms = ["softmax", "pidformer-ema"]
seeds = [0]
[settings]
epochs = 1
depth = 2
dim = 12
patch = 4
image = 8
batch = 7
drop_path = 0.0
"""


def test_alone_there_is_one_process():
    rows = np.arange(5)
    assert (data_parallel.count(), data_parallel.rank(), data_parallel.weight_of(rows)) == (1, 0, 1.0)
    npt.assert_array_equal(data_parallel.share_of(rows), rows)
    model = torch.nn.Linear(2, 2)
    assert data_parallel.shared(model) is model
    assert data_parallel.mean(torch.tensor(2.0)) == 2.0
    assert data_parallel.agreed(True, torch.device("cpu"))
    with data_parallel.group():
        assert data_parallel.count() == 1
    with pytest.raises(ValueError, match="there is no device 'abacus' here"):
        data_parallel.device("abacus")


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("count", [2, 3])
def test_the_shares_and_their_weights_make_the_mean_of_the_batch(monkeypatch, n, count):
    rows, total = np.arange(n) + 1.0, 0.0
    monkeypatch.setattr(data_parallel, "count", lambda: count)
    for rank in range(count):
        monkeypatch.setattr(data_parallel, "rank", lambda rank=rank: rank)
        total += data_parallel.weight_of(rows) * data_parallel.share_of(rows).mean()
    npt.assert_allclose(total / count, rows.mean(), rtol=1e-14)


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked after all imports")
def test_two_processes_train_the_network_that_one_trains(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for c, name in enumerate(("bright", "dark")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for k in range(20):
            pixels = (100 * c + 100 * rng.random((12, 12, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{k:02}.png")
    (tmp_path / "plan.toml").write_text(PLAN, encoding="utf-8")
    arguments = ["train", "--data", "pets", "--plan", "plan.toml", "--device", "cpu", "--out"]
    monkeypatch.chdir(tmp_path)
    # First, since what it imports is then there in the processes that are forked.
    alone = CliRunner().invoke(app, [*arguments, "one"])
    assert alone.exit_code == 0, alone.output
    # As torchrun does, which keeps the store: a port that was free a moment ago may be taken when it is asked for.
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def as_torchrun(rank):
        """What torchrun tells each of its processes, and the one thread that it gives them."""
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1"}
        places |= {"MASTER_PORT": store.port, "TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0}
        if "lo" in {name for _, name in socket.if_nameindex()}:
            places["GLOO_SOCKET_IFNAME"] = "lo"  # where the name of the machine leads does not matter
        os.environ.update({name: str(value) for name, value in places.items()}, COLUMNS="200")
        torch.set_num_threads(1)

    started = [
        small_commands.start([*arguments, "two"], tmp_path / f"said{rank}", lambda rank=rank: as_torchrun(rank))
        for rank in (0, 1)
    ]
    done = [small_commands.finish(started[rank], tmp_path / f"said{rank}", 300.0) for rank in (0, 1)]
    assert [each.code for each in done] == [0, 0], done
    # One process prints; the numbers are those of one process, to rounding.
    assert [each.stdout.count("comparison.json") for each in done] == [1, 0]
    for arm in ("softmax", "pidformer-ema"):
        one, two = (json.loads((tmp_path / o / "runs" / f"pets_{arm}_0.json").read_text()) for o in ("one", "two"))
        assert one["settings"] == two["settings"]
        npt.assert_allclose(two["losses"], one["losses"], rtol=1e-5)
        npt.assert_allclose(two["trained"]["rank"], one["trained"]["rank"], rtol=1e-4)
        assert not np.allclose(one["trained"]["rank"], one["untrained"]["rank"], rtol=1e-3)

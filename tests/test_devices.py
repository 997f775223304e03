"""A device is judged by name before any work, and alike in every command that runs a network."""

import inspect

import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from ctrlattn import cli, devices  # noqa: E402
from ctrlattn.errors import InputError  # noqa: E402

COMMANDS = {
    "analyze": ("no/model", "--text", "a b"),
    "drop": ("no/model", "--text", "a b", "--attention", "1"),
    "observe": ("no/model", "--text", "no.txt", "--layer", "1"),
    "loop": ("no/model", "--text", "a b", "--layers", "0:1"),
    "report": ("--checkpoint", "no/model", "--text", "a b"),
    "explore": ("--checkpoint", "no/model", "--text", "a b"),
}


def run(name, *arguments):
    return CliRunner().invoke(cli.app, [name, *arguments])


@pytest.mark.parametrize(
    ("name", "told"),
    [("gpu", "there is no device 'gpu' here"), ("CUDA", "this machine has cpu"), ("meta", "shapes and no numbers")],
)
def test_what_is_no_device_is_told(name, told):
    with pytest.raises(InputError, match=told):
        devices.device(name)


def test_the_devices_of_this_machine_are_told(monkeypatch):
    monkeypatch.setattr(devices, "_DRIVERS", ("null",))  # as where there is a driver
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices.here() == ["cpu", "cuda:0", "cuda:1", "xpu:0"]
    with pytest.raises(InputError, match=r"'cuda9' here: this machine has cpu, cuda:0, cuda:1, xpu:0$"):
        devices.device("cuda9")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert devices.here()[-1] == "mps"
    monkeypatch.setattr(devices, "_DRIVERS", ("no-driver*",))
    monkeypatch.setattr(devices.sys, "platform", "linux")
    assert devices.here() == ["cpu"]
    monkeypatch.setattr(devices.sys, "platform", "darwin")
    assert devices.here()[-1] == "mps"


def test_torch_is_asked_for_names_that_a_library_may_give_it(monkeypatch):
    monkeypatch.setattr(devices, "entry_points", lambda group: ["npu"] if group == "torch.backends" else [])
    devices.require_device("npu:1")
    for name in ("npu:x", "meta"):
        with pytest.raises(InputError, match="there is no device"):
            devices.require_device(name)


def test_every_name_that_torch_knows_here_passes_before_torch():
    for name in ("cpu", "cpu:0", "cuda", "cuda:0", "cuda:15", "mps", "xpu:3"):
        devices.require_device(name)
        torch.device(name)
    for name in ("", ":", "cpu:", "cuda:-1", "cuda:01", "cuda:1.0", "cuda 1", "cuda:1 ", "cuda:9999999"):
        with pytest.raises(InputError, match="there is no device"):
            devices.require_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_kind_that_this_machine_has_not_is_told():
    with pytest.raises(InputError, match=r"there is no device 'cuda:7' here: this machine has cpu.*; torch says: "):
        devices.device("cuda:7")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("option", "value", "told"),
    [("--device", "abacus", "there is no device 'abacus'"), ("--dtype", "float16", "float16")],
)
def test_every_command_that_runs_a_network_judges_it_first(command, option, value, told, tmp_path):
    result = run(command, *COMMANDS[command], "--out", str(tmp_path / "out"), option, value)
    assert result.exit_code == 2
    assert told in result.stderr
    assert "no/model" not in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_options_are_the_same_everywhere():
    for command in COMMANDS:
        given = inspect.signature(getattr(getattr(cli, command), command)).parameters
        assert given["device"].annotation == cli.options.Device, command
        assert given["dtype"].annotation == cli.options.Numbers, command


@pytest.mark.parametrize("command", ["report", "explore"])
def test_a_device_without_a_network_is_refused(command, tmp_path):
    result = run(command, "--out", str(tmp_path / "out"), "--device", "cpu")
    assert result.exit_code == 2
    assert "--device says how a network runs: give --checkpoint as well" in result.stderr


def test_layers_on_disk_have_their_own_numbers(tmp_path):
    result = run(
        "analyze", "no/model", "--text", "a b", "--on-disk", "--dtype", "float64", "--out", str(tmp_path / "out")
    )
    assert result.exit_code == 2
    assert "--on-disk computes in float32 on the cpu: leave out --dtype" in result.stderr


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has the device")
def test_what_torch_says_of_a_device_that_it_lacks_is_one_sentence():
    with pytest.raises(InputError) as told:
        devices.device("mps")
    assert 60 < len(str(told.value)) < 250

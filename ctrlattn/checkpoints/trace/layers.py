"""x_{l+1} is what layer l gave: the layers of a network, found as modules that hand one stream on to each other."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from ctrlattn.checkpoints.trace.follow import matrix_of, stream_among, stream_in
from ctrlattn.errors import InputError


@dataclass(eq=False)
class Visit:
    """One call of a module: when it began and ended, the stream it was given, what it returned first, and a matrix.

    The arguments of its call, (args, kwargs), are kept where they are asked for.
    """

    path: str
    began: int
    ended: int = -1
    x: torch.Tensor | None = None
    out: torch.Tensor | None = None
    matrix: torch.Tensor | None = None
    versions: tuple[int, int] = (0, 0)
    arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    @property
    def intact(self) -> bool:
        """Whether nothing has been written into x and out since they were seen."""
        return self.versions == (_version(self.x), _version(self.out))

    @property
    def keeps_shape(self) -> bool:
        """Whether it returns a tensor of the shape of what it was given."""
        return self.x is not None and self.out is not None and self.x.shape == self.out.shape

    def hands_to(self, other: "Visit") -> bool:
        """Tell whether the other reads what this one returned."""
        if self.out is None or other.x is None or self.ended > other.began:
            return False
        return self.out.shape == other.x.shape and bool(torch.equal(self.out, other.x))


def _version(t: torch.Tensor | None) -> int:
    return 0 if t is None else t._version


@contextmanager
def visited(
    model: Any,
    paths: Sequence[str],
    matrices: Collection[str] = (),
    *,
    ended: Callable[[Visit], None] | None = None,
    copies: bool = True,
    repeatable: Collection[str] = (),
) -> Iterator[list[Visit]]:
    """Record the calls of these modules inside the block, in order of their beginning; some with the matrix they give.

    `ended` is called with each of them when it has ended, and may take visits that it needs no more off the list. It
    can do without copies: what a network has written into since is then no longer `intact`. The arguments of those
    in `repeatable`, which may be called again, are kept.
    """
    visits: list[Visit] = []
    running: list[tuple[Any, Visit]] = []
    clock = iter(range(1 << 62))
    names: dict[Any, str] = {}
    modules = dict(model.named_modules(remove_duplicate=False))
    for path in paths:
        if path in modules or path not in matrices:  # what replaced attention has no module with a matrix
            names.setdefault(modules[path] if path in modules else model.get_submodule(path), path)

    def snapshot(t: torch.Tensor | None) -> torch.Tensor | None:
        return t.clone() if copies and t is not None else t

    def before(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = stream_among(args, kwargs)[0]
        visits.append(Visit(names[module], next(clock), x=snapshot(x)))
        visits[-1].versions = (_version(visits[-1].x), 0)
        if names[module] in repeatable:
            visits[-1].arguments = (args, kwargs)
        running.append((module, visits[-1]))

    def after(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        while running and running[-1][0] is not module:
            running.pop()
        y, visit = stream_in(output), running.pop()[1]
        visit.ended, visit.out = next(clock), snapshot(y)
        visit.versions = (visit.versions[0], _version(visit.out))
        if visit.path in matrices:
            visit.matrix = matrix_of(output)
        if ended is not None:
            ended(visit)

    handles = [m.register_forward_pre_hook(before, with_kwargs=True) for m in names]
    handles += [m.register_forward_hook(after, with_kwargs=True) for m in names]
    try:
        with torch.no_grad():
            yield visits
    finally:
        for handle in handles:
            handle.remove()


def lists_of(model: Any) -> dict[str, list[str]]:
    """Return the lists of modules in a network: path of a list -> paths of its members."""
    kinds = (torch.nn.ModuleList, torch.nn.Sequential)
    lists = {name: module for name, module in model.named_modules() if isinstance(module, kinds) and len(module)}
    return {name: [f"{name}.{key}" if name else key for key, _ in m.named_children()] for name, m in lists.items()}


def inside(model: Any, lists: dict[str, list[str]]) -> list[str]:
    """Return the paths of all modules below the members of lists, members included."""
    members = {path for paths in lists.values() for path in paths}
    outermost = [path for path in members if not any(path.startswith(other + ".") for other in members)]
    names = [(path, name) for path in outermost for name, _ in model.get_submodule(path).named_modules()]
    return [f"{path}.{name}" if name else path for path, name in names]


def layers_among(model: Any, visits: Sequence[Visit], lists: dict[str, list[str]]) -> list[Visit]:
    """Return the calls of the layers, in order of depth.

    Raises
    ------
    InputError
        No list whose members keep the shape of a stream and hand it on.
    """
    chains = {name: _calls(visits, paths) for name, paths in lists.items()}
    weight = {name: _parameters(model, calls) for name, calls in chains.items()}
    linked = {name: _links(calls) for name, calls in chains.items() if calls}
    usable = [name for name in linked if linked[name] or len(lists[name]) == 1]
    if not usable:
        raise InputError(_no_layers(model, visits, lists))
    most = max(usable, key=lambda name: (linked[name], weight[name]))
    largest = max(usable, key=lambda name: (weight[name], linked[name]))
    best = largest if linked[largest] >= max(1, linked[most] // 4) else most
    return _join(chains, best)


def _calls(visits: Sequence[Visit], paths: Sequence[str]) -> list[Visit]:
    """Return the calls of a list's members; none where one changes the stream's shape or is inside another."""
    members = set(paths)
    calls = [visit for visit in visits if visit.path in members and visit.ended >= 0]
    return calls if calls and all(visit.keeps_shape for visit in calls) else []


def _links(calls: Sequence[Visit]) -> int:
    return sum(a.hands_to(b) for a, b in pairwise(calls))


def _parameters(model: Any, calls: Sequence[Visit]) -> int:
    return sum(p.numel() for path in {v.path for v in calls} for p in model.get_submodule(path).parameters())


def _join(chains: dict[str, list[Visit]], best: str) -> list[Visit]:
    """Return a list's calls with those of other lists that hand the same stream on before, between or behind them."""
    calls = list(chains[best])
    other_visits = [v for name, chain in chains.items() if name != best for v in chain]
    grown = True
    while grown:
        grown = False
        for visit in other_visits:
            if any(visit is v or _overlap(visit, v) for v in calls):
                continue
            if visit.hands_to(calls[0]) or calls[-1].hands_to(visit) or _fills(visit, calls):
                calls = sorted([*calls, visit], key=lambda v: v.began)
                grown = True
    return calls


def _overlap(a: Visit, b: Visit) -> bool:
    return a.began < b.ended and b.began < a.ended


def _fills(visit: Visit, calls: Sequence[Visit]) -> bool:
    """Tell whether a visit stands in a gap: behind or in front of one of the calls, which are not linked yet."""
    pairs = pairwise(calls)
    return any(not a.hands_to(b) and (a.hands_to(visit) or visit.hands_to(b)) for a, b in pairs)


def _no_layers(model: Any, visits: Sequence[Visit], lists: dict[str, list[str]]) -> str:
    name = type(model).__name__
    members = {path for paths in lists.values() for path in paths}
    calls = [visit for visit in visits if visit.path in members and visit.ended >= 0]
    if not lists:
        return f"{name} has no list of layers: there is no repeated stream to trace"
    if not calls:
        names = ", ".join(sorted(lists)[:3])
        return f"{name} calls no member of its lists of modules ({names}) on these inputs, or calls them past hooks"
    if all(visit.out is None for visit in calls):
        return f"the layers of {name} return no tensor: there is no stream to follow"
    if not any(visit.keeps_shape for visit in calls):
        return f"no layer of {name} returns a stream of the shape that it reads"
    return f"the modules of {name} do not hand a stream on to each other: each call restarts it"

"""x' = Norm(skip x + feedback y + u) as a drawing in text, with letters or with what a loop has in their places."""

from typing import Any, NamedTuple

from ctrlattn.values import short


class DiagramLabels(NamedTuple):
    """What stands at the seven places of the drawing."""

    reference: str = "beta * x_0"
    controller: str = "Controller"
    norm: str = " Norm ◄──"  # with its arrow, since a loop may have none
    skip: str = "skip"
    predictor: str = "Predictor"
    feedback: str = "feedback"


def picture(parts: DiagramLabels, indent: int = 4) -> str:
    """Draw the diagram; its blocks widen with what they hold.

    >>> print(picture(DiagramLabels(), indent=0))
    r = beta * x_0 ──►(+)── e ──► Controller ── u ──┐
                       ▲ −                          ▼
                       └──── x ◄── z⁻¹ ◄── Norm ◄──(+)◄── skip · x
                             │                      ▲
                             └──► Predictor ── y ───┘ feedback · y
    """
    source = f"r = {parts.reference} ──►("
    control = f"+)── e ──► {parts.controller} ── u ──"
    state = f"└──── x ◄── z⁻¹ ◄──{parts.norm}"
    predict = f"└──► {parts.predictor} ── y ──"
    # The column of the node at the right, counted from the corner below the comparator.
    node = max(len(control), len(state) + 1, len(predict) + 7)
    margin = " " * len(source)
    lines = (
        source + control.ljust(node, "─") + "┐",
        margin + "▲ −".ljust(node) + "▼",
        margin + (state.ljust(node - 1, "─") + f"(+)◄── {parts.skip} · x"),
        margin + "      │".ljust(node) + "▲",
        margin + "      " + predict.ljust(node - 6, "─") + f"┘ {parts.feedback} · y",
    )
    return "\n".join(" " * indent + line for line in lines)


DIAGRAM = "\n" + picture(DiagramLabels()) + "\n"


def drawn(loop: Any) -> str:
    """Draw one Loop with its own numbers and functions, and below it what the drawing cannot show."""
    names = DiagramLabels(
        reference=f"{short(loop.reference_gain)} * x_0",
        controller="0" if loop.controller is None else short(loop.controller),
        norm="" if loop.normalizer is None or loop.normalize_input else f" {short(loop.normalizer)} ◄──",
        skip=short(loop.skip),
        predictor=(f"{short(loop.normalizer)} ──► " if loop.normalize_input else "") + short(loop.predictor),
        feedback=short(loop.feedback),
    )
    hold_words = ", token 0 is held" if loop.hold_first else ""
    return f"Loop, {loop.order} order{hold_words}\n{picture(names)}"

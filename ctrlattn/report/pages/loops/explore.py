"""Section: the explorer, on which a person turns the gains and every recorded mode shows whether it is stable."""

from ctrlattn.errors import InputError
from ctrlattn.report.explorer.page import markup
from ctrlattn.report.pages.loops.material import Material
from ctrlattn.report.section import Section


def sections(material: Material) -> list[Section]:
    """Show the explorer of all recorded networks; where it cannot show them, the reason takes its place."""
    title = "Turn the gains yourself, and see which modes stay stable"
    sentences = (
        "Every recorded mode is below. The sliders change the law, and all panes follow. "
        "The command ctrlattn explore writes this explorer as a page of its own.",
    )
    try:
        explorer = markup(material.networks, level=3)
    except InputError as error:  # more modes than a page redraws, or texts that do not fit each other
        return [Section("explore", title, (f"The explorer is left out. {error}",))]
    return [Section("explore", title, sentences, markup=str(explorer))]

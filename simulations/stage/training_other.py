"""comparison.json on other data -> their section of docs/training.md: text and 28 x 28 images, with fewer seeds."""

import tomllib
from pathlib import Path
from textwrap import fill

from ctrlattn.nn.experiment.table import lines, shown
from stage.page_file import read_json, without_curves, write_json

SIMULATIONS = Path(__file__).parents[1]
OTHER = {data: SIMULATIONS / "results" / f"train_{data}.json" for data in ("mnist5k", "text")}
OTHER_HEAD = """These are `ctrlattn train mnist5k` and `ctrlattn train text`, with the sizes that the command has for
them. The runs are long, so that there are few seeds: intervals are wide, and an interval that excludes 0 may do so by
chance. The claims that were fixed beforehand are tested only where all seeds of a plan were run."""
OTHER_SAID = {
    "mnist5k": "3,500 images of 28 x 28 pixels are for training and 1,000 for the test. Patches have a side of 4, and "
    "there are 8 epochs.",
    "text": "The text is the King James Bible by characters, with 4,096 windows of 64 characters for training, 512 for "
    "the test, and 4 epochs. The gains are those for language, which are quoted from memory and were not checked "
    "against the source. The page was written after three of the five seeds, and these were looked at, before the last "
    "two were run; the number of five and the tests had been fixed before the first.",
}


def keep_also(folder):
    """Store the comparison in a folder as the result for its data."""
    result = read_json(Path(folder) / "comparison.json")
    write_json(OTHER[result["plan"]["data"]], without_curves(result))


def other_lines():
    """The section on other data, with a part for each comparison that has been run."""
    planned_only = ", ".join(f"{data} (`{plan_of(data).name}`)" for data, file in OTHER.items() if not file.exists())
    waiting = f" Comparisons that are planned, but not run yet: {planned_only}." if planned_only else ""
    page_lines = ["## Other data", "", fill(" ".join(OTHER_HEAD.split()) + waiting, 120), ""]
    for data, file in ((data, file) for data, file in OTHER.items() if file.exists()):
        result = read_json(file)
        seeds, planned = (plan["seeds"] for plan in (result["plan"], tomllib.loads(plan_of(data).read_text("utf-8"))))
        sentences = f"The seeds {', '.join(map(str, seeds))} were run, of {len(planned)} that were planned."
        if not result["tests"]:
            sentences += " The tests of the plan need all of them and were not made."
        chance = [result["differences"]["softmax-again"][score] for score in shown(result)]
        outside = sum(row["low"] > 0 or row["high"] < 0 for row in chance)
        sentences += f" Of the {len(chance)} intervals of softmax-again, {outside} exclude 0, by chance alone."
        page_lines += [f"### {data}", "", fill(f"{OTHER_SAID[data]} {sentences}", 120), "", *lines(result), ""]
    return page_lines[:-1]


def plan_of(data):
    """The file in which the comparison on these data was fixed."""
    return SIMULATIONS / "configs" / f"train_{data}.toml"

"""The command `ctrlattn list`: presets with their sources, parts of a configuration, and shipped signals."""

import typer

from ctrlattn.cli.terminal import AsJSON, print_json


def list_(as_json: AsJSON = False) -> None:
    """Show the presets with their sources, the parts of a configuration, and the shipped signals."""
    from ctrlattn import config, presets
    from ctrlattn import signals as recordings

    descriptions = {name: presets.describe(name) for name in presets.names()}
    if as_json:
        print_json(
            {
                "presets": {
                    name: {"summary": p.summary, "source": p.source, "loop": config.loop_to_dict(p.loop)}
                    for name, p in descriptions.items()
                },
                "kinds": config.kinds(),
                "shipped_signals": recordings.shipped(),
            }
        )
        return
    typer.echo("Presets")
    for name, p in descriptions.items():
        typer.echo(f"  {name}\n      {p.summary}\n      {p.source}")
    for part, kinds in config.kinds().items():
        typer.echo(f"{part.capitalize()} of a configuration: {', '.join(kinds)}")
    typer.echo(f"Shipped signals: {', '.join(recordings.shipped())}")

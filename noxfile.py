#!/usr/bin/env python3
# /// script
# dependencies = ["nox>=2025.2.9"]
# ///
"""Sessions of nox: what .ci/run does, in parts, each in an environment of its own. `nox --list` names them."""

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"


@nox.session
def lint(session: nox.Session) -> None:
    """Lint, format and types."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The quick selection, or what is given: `nox -s tests -- -m "" tests/test_loop.py`."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", *(session.posargs or ["-q", "-n", "2", "-m", "not slow"]))


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """The documentation site, into site/."""
    session.install("-e", ".[docs]")
    session.run("python", "-m", "sphinx", "-q", "-W", "--keep-going", "docs", "site")


@nox.session(default=False)
def links(session: nox.Session) -> None:
    """Whether the addresses of other sites answer; it needs a network. Links inside the site are held by `docs`."""
    session.install("-e", ".[docs]")
    options = ["-q", "-b", "linkcheck", "-D", "nb_execution_mode=off"]
    session.run("python", "-m", "sphinx", *options, "docs", session.create_tmp(), *session.posargs)


@nox.session(default=False)
def mutants(session: nox.Session) -> None:
    """Whether the tests die when a formula changes: `nox -s mutants -- --sample 60`."""
    session.install("-e", ".[test]")
    session.run("python", "tests/mutation.py", *(session.posargs or ["--sample", "20"]))


if __name__ == "__main__":
    nox.main()

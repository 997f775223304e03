"""`ctrlattn` and `python -m ctrlattn`: the command line."""

import signal


def main() -> None:
    """Import the command line and run it; until it is there, a signal ends the process without a word."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # which would raise within some import
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from ctrlattn.cli import main as run

    run()


if __name__ == "__main__":
    main()

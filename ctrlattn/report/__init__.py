"""`ctrlattn report`: one page that tells what attention does as a feedback loop, on signals of a real network."""

from ctrlattn.report.pages.loops.write import Report, write

__all__ = ["Report", "write"]

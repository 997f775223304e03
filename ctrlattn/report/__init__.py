"""`ctrlattn report`: one page that tells what attention does as a feedback loop, on signals of a real network."""

from ctrlattn.report.folder import Report
from ctrlattn.report.pages.loops.page import write

__all__ = ["Report", "write"]

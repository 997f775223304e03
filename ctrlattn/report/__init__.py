"""HTML reports: pages of sections with sentences, figures and numbers, and the one writer of their files."""

from ctrlattn.report.explorer.page import explore
from ctrlattn.report.folder import Report
from ctrlattn.report.pages.loops.page import write

__all__ = ["Report", "explore", "write"]

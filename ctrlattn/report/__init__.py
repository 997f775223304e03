"""HTML reports: pages of sections with sentences, figures and numbers, and the one writer of their files.

The names load on first use: the page of a checkpoint needs none of what the page of loops computes with.
"""

from typing import TYPE_CHECKING

from ctrlattn.lazy import on_first_use

if TYPE_CHECKING:
    from ctrlattn.report.explorer.page import explore as explore
    from ctrlattn.report.folder import Report as Report
    from ctrlattn.report.pages.loops.page import write as write
else:
    __all__, __getattr__, __dir__ = on_first_use(
        __name__, {"explorer.page": "explore", "folder": "Report", "pages.loops.page": "write"}
    )

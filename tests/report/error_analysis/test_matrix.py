"""The matrix shows classes that were met, and says how many were not."""

from __future__ import annotations

import re

from report.error_analysis import mistakes
from report.error_analysis.test_chapter import few

from lightning_debugkit.report.error_analysis import matrix
from lightning_debugkit.report.error_analysis.analysis_file import AnalysisFile
from lightning_debugkit.report.parts import Drawing


def test_classes_that_were_never_met_take_no_room_among_many() -> None:
    """Of 1,000 classes the data have 250, in a row or strewn among the others."""
    part = mistakes.of_many(250)
    alone = AnalysisFile(part)
    _, whole = matrix.drawings(alone, "errors")
    for stride in (1, 4):
        names = [f"class {number}" for number in range(1000)]
        cells = [[stride * target, stride * predicted, count] for target, predicted, count in part["confusion"]]
        order = [stride * each for each in part["order"]]
        order += sorted(set(range(1000)) - set(order))
        analysis = AnalysisFile({**part, "classes": names, "confusion": cells, "order": order})
        assert (matrix.blocks(analysis) == matrix.blocks(alone)).all()
        shown, overview = matrix.drawings(analysis, "errors")
        assert shown.title.endswith("most confused of 250 classes")
        assert overview.title == "All 250 classes that were met"
        said = "750 classes have neither samples nor predictions, and no place here."
        assert overview.caption.endswith(said)
        assert shown.caption.endswith(said)
        assert near(overview) == near(whole)
    assert whole.title == "All 250 classes"


def near(overview: Drawing) -> str:
    [told] = re.findall(r"(\S+ %) of the mistakes lie next to the diagonal, within a tenth", overview.caption)
    return str(told)


def test_where_few_of_many_classes_were_met_the_matrix_is_of_these() -> None:
    held = {**few(), "classes": [f"class {number}" for number in range(100)], "order": []}
    [shown] = matrix.drawings(AnalysisFile(held), "errors")
    assert shown.title == "Confusion matrix"
    assert "97 classes have neither samples nor predictions" in shown.caption

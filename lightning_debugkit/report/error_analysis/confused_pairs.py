"""The most confused pairs, what merging them is worth, and labels that may be wrong, each with its samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lightning_debugkit.core.name_lists import percent
from lightning_debugkit.report.error_analysis.analysis_file import (
    AnalysisFile,
    Row,
    filled,
    finite_number,
    known,
    probability,
    share,
)
from lightning_debugkit.report.error_analysis.sample_album import Album, gallery
from lightning_debugkit.report.number_formats import as_int, as_list, as_mapping, number
from lightning_debugkit.report.parts import Details, Gallery, Heading, Paragraph, Part, SamplePart, Table, table_of

_SHOWN, _MOST = 8, 50
_MERGES = 5
_PAIRS, _OF_PAIR = 3, 3
_ISSUES, _LISTED = 14, 100


def pair_parts(analysis: AnalysisFile, album: Album) -> Iterator[Part]:
    """Yield the most confused pairs as a table, and the first of them side by side."""
    found = analysis.rows("most_confused")
    if not found:
        return
    yield _pairs("Most confused", found[:_SHOWN], analysis)
    yield from _side_by_side(found, analysis, album)
    if found[_SHOWN:]:
        rest = found[_SHOWN:_MOST]
        title = f"The next {len(rest)} pairs" if len(rest) > 1 else "The next pair"
        yield Details(title, (_pairs("Most confused, continued", rest, analysis),))


def _pairs(caption: str, found: Sequence[Row], analysis: AnalysisFile) -> Table:
    rows = tuple(
        (
            analysis.name(row.get("target")),
            analysis.name(row.get("predicted")),
            f"{as_int(row.get('count')):,}",
            _of_its_class(row, analysis),
            f"{as_int(row.get('reverse')):,}" if "reverse" in row else "",
        )
        for row in found
    )
    header = ("true class", "taken for", "times", f"of its class{analysis.bounded}", "other way round")
    return filled(caption, header, rows)


def _of_its_class(row: Row, analysis: AnalysisFile) -> str:
    """Return the share of the true class that goes wrong in this way; what is none has no class to be a share of."""
    told = analysis.share(row, "share", "low", "high")
    return f"{told} of false alarms" if told and analysis.is_nothing(row.get("target")) else told


def _side_by_side(found: Sequence[Row], analysis: AnalysisFile, album: Album) -> Iterator[Gallery]:
    by_pair = {(as_int(row.get("target"), -1), as_int(row.get("predicted"), -1)): row for row in found}
    shown: set[frozenset[object]] = set()
    for target, predicted in by_pair:
        both = frozenset((target, predicted))
        if both in shown or len(shown) == _PAIRS:
            continue
        shown.add(both)
        yield from gallery(
            f"{analysis.name(target)} and {analysis.name(predicted)}",
            (
                album.sample(index, f"true: {analysis.name(one)}", f"taken for {analysis.name(other)}")
                for one, other in ((target, predicted), (predicted, target))
                for index in as_list(by_pair.get((one, other), {}).get("examples"))[:_OF_PAIR]
            ),
        )


def merges(analysis: AnalysisFile) -> Iterator[Part]:
    """Yield what would be gained if two labels were one."""
    found = analysis.rows("merge_candidates")
    if not found:
        return
    table = filled(
        "If two classes were one",
        ("classes", "confused", "accuracy", "kappa", "its rise (95 %)" if analysis.bounded else "its rise",
         f"told apart{analysis.bounded}", "cannot tell"),
        tuple(
            (
                f"{analysis.name(row.get('first'))} and {analysis.name(row.get('second'))}",
                _each_way(row),
                _change(row, "accuracy", is_rate=True),
                _change(row, "kappa", is_rate=False),
                _within(row, "rise", analysis, is_short=True),
                _within(row, "told_apart", analysis),
                known(row, "cannot_tell", percent),
            )
            for row in found[:_MERGES]
        ),
    )  # fmt: skip
    explained = Paragraph(
        "Accuracy rises with every merge; kappa takes off what guessing would give, and rises for any pair that is "
        "told apart worse than classes are on average. Told apart is the kappa of the two alone: 1 is never taken for "
        "each other, 0 is guessing. If that is low, mistakes go both ways and people cannot tell the samples apart "
        "either, the labels ask too much. If nearly all go one way, one class swallows the other: weights or a "
        "threshold mend that, a merge does not. In a mistake where the model cannot tell, it gave the right class at "
        "least half of what it gave the wrong one."
    )
    yield Details("What merging classes would bring", (table, explained))


def _within(row: Row, key: str, analysis: AnalysisFile, is_short: bool = False) -> str:
    """Return a number, and where answers are independent its interval; of a short one that alone."""
    value, low, high = (known(row, name, "{:.2g}".format) for name in (key, f"{key}_low", f"{key}_high"))
    if not (low and high and analysis.bounded):
        return value
    return f"{low} to {high}" if is_short else f"{value} ({low} to {high})"


def _each_way(row: Row) -> str:
    """Return how often two classes are taken for each other, and of that how often in each direction."""
    count, asymmetry = as_int(row.get("count")), finite_number(row, "asymmetry")
    if asymmetry is None:
        return f"{count:,}"
    forth = round(count * (1 + min(max(asymmetry, -1), 1)) / 2)
    return f"{count:,} ({forth:,} and {count - forth:,})"


def _change(row: Row, key: str, *, is_rate: bool) -> str:
    before, after = finite_number(row, key), finite_number(row, f"{key}_merged")
    if before is None or after is None:
        return ""
    said = [percent(value) if is_rate else number(round(value, 4)) for value in (before, after)]
    return f"{said[0]} to {said[1]}"


def issues(analysis: AnalysisFile, album: Album) -> Iterator[Part]:
    """Yield the samples whose labels the model contradicts most."""
    found = analysis.rows("label_issues")
    rate = as_mapping(analysis.held.get("label_issue_rate"))
    told = share(rate, "value", "low", "high")
    if not found:
        return
    yield Heading("Labels that may be wrong")
    # The list is cut where it is very long; the counts by class are whole.
    count = max(len(found), sum(as_int(row.get("issues")) for row in analysis.rows("label_issue_classes")))
    one = f"1 {analysis.noun} has a label" if count == 1 else f"{count:,} {analysis.unit} have labels"
    yield Paragraph(
        f"{one} that the model's own probabilities contradict (confident learning, most doubtful first)."
        + (f" That is {told} of all." if told else "")
        + " A suspect is not a culprit: look before you change a label."
    )
    shown = tuple(gallery("Most doubtful labels", (_issue(row, analysis, album) for row in found[:_ISSUES])))
    table = table_of(
        f"The first {_LISTED} of {count:,}" if count > _LISTED else "All suspects",
        ("index", "label", "looks like", "p(looks like)", "label quality"),
        tuple(
            (
                str(row.get("index", "")),
                analysis.name(row.get("label")),
                analysis.name(row.get("suggested")),
                known(row, "probability", probability),
                known(row, "score", number),
            )
            for row in found[:_LISTED]
        ),
    )
    yield from shown or (table,)
    folded = (*((table,) if shown else ()), *_by_class(analysis))
    if folded:
        yield Details("Doubtful labels as a table" if shown else "Class by class", folded)


def _by_class(analysis: AnalysisFile) -> Iterator[Table]:
    rows = tuple(
        (
            analysis.name(row.get("class")),
            f"{as_int(row.get('support')):,}",
            f"{as_int(row.get('issues')):,}",
            share(row, "share", "low", "high"),
        )
        for row in analysis.rows("label_issue_classes")[:_MOST]
    )
    if rows:
        yield table_of("By class", ("label", analysis.unit, "doubtful", "share (95 %)"), rows)


def _issue(row: Row, analysis: AnalysisFile, album: Album) -> SamplePart:
    sure = known(row, "probability", probability)
    return album.sample(
        row.get("index"),
        f"label: {analysis.name(row.get('label'))}",
        f"looks like {analysis.name(row.get('suggested'))}",
        f"{sure} sure" if sure else "",
    )

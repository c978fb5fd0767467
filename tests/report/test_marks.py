"""Honesty: no number of ours stands in a table of the paper without a mark, unless no deviation affects it."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from records import read_records

from ddpm.config.errors import DamagedFile
from ddpm.report import rendering
from ddpm.report.inputs import COLUMNS
from ddpm.report.tables import make_table

LSUN = ("bedroom", "church", "cat")
# The titles of our numbers by the name under which a deviation affects them, in each table.
AFFECTED = {
    "table1": {
        "is": ["IS"],
        "fid_train": ["FID train"],
        "fid_test": ["FID test"],
        "nll_test": ["NLL test (bits/dim)"],
        "nll_train": ["NLL train (bits/dim)"],
    },
    "table2": {"is": ["IS"], "fid_train": ["FID train"], "fid_test": ["FID test"]},
    "table3": {"fid_train": [part.capitalize() for part in LSUN]},
    "table4": {"nll_test": ["Rate (bits/dim)", "Distortion (RMSE)", "Distortion (mean of per-image RMSE)"]},
}
ALONE_AND_TOGETHER = [[], *([column] for column in COLUMNS), ["is", "fid_train"], list(COLUMNS)]
MOON = "Not the paper's protocol: made on the moon."


def affected(name, affects):
    """The titles of table `name` that a deviation of `affects` marks."""
    return {title for column in affects for title in AFFECTED[name].get(column, [])}


@pytest.fixture
def paper_table(tmp_path, results, make):
    """Make a table of runs by the paper's protocol but for these deviations; give its rows and texts."""

    def build(name, deviations, data=None):
        changes = {"deviations": deviations, "nll": make.bits(3.75, 3.72)}
        runs, columns = [], {}
        if name == "table3":
            for part in LSUN:
                own = {"name": data or f"lsun-{part}256", "title": f"LSUN {part}"}
                run = make.as_published("eps-simple", 9, 0.1, 7.0) | changes
                runs.append(run | {"experiment": f"lsun-{part}256-eps-simple", "data": own})
                columns[runs[-1]["experiment"]] = part
        else:
            own = {"name": data or "cifar10", "title": "CIFAR10"}
            for method in make.methods:
                runs.append(make.as_published(method, 9, 0.1, 7.0) | changes | {"data": own})
        paths = {suffix: tmp_path / f"{name}.{suffix}" for suffix in ("csv", "md", "tex", "html")}
        metrics = [results.add(run) for run in runs]
        make_table(name, metrics, [results.rate_distortion(1000)], *paths.values(), columns)
        return read_records(paths["csv"]), {key: path.read_text(encoding="utf-8") for key, path in paths.items()}

    return build


class Cells(HTMLParser):
    """The text of every <td> by row, and the notes that its marks lead to."""

    def __init__(self):
        super().__init__()
        self.rows, self.notes, self.inside = [], {}, None

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append(["", []])
            self.inside = "td"
        if tag == "sup":
            self.inside = "sup"
        if tag == "a":
            self.rows[-1][-1][1].append(attributes["href"].removeprefix("#"))
        if tag == "li":
            self.inside = attributes["id"]
            self.notes[self.inside] = ""

    def handle_data(self, data):
        if self.inside == "td":
            self.rows[-1][-1][0] += data
        elif self.inside in self.notes:
            self.notes[self.inside] += data

    def handle_endtag(self, tag):
        if tag in ("td", "li", "sup", "table"):
            self.inside = None


def cells_of(rows, texts):
    """By format: a line per row, of (column, text, footnotes) for each column that is no label."""
    columns = rendering.columns_of(pd.DataFrame(rows))
    inner = [column for column in columns if column not in rendering.LABELS]

    def lines_of(lines, mark, notes):
        """Lines of cells with marks at their ends, as texts and the footnotes that the marks name."""
        for cells in lines:
            split = [re.fullmatch(rf"\s*(.*?)(?:{mark})?\s*", cell).groups() for cell in cells]
            yield [
                (column, text, [notes[each] for each in (marks or "").split(",") if each])
                for column, (text, marks) in zip(columns, split, strict=True)
                if column in inner
            ]

    md = [line[2:-2].split(" | ") for line in texts["md"].splitlines() if line.startswith("| ")][1:]
    md_notes = dict(re.findall(r"^(\d+)\. (.*)$", texts["md"], re.M))
    body = texts["tex"].split(r"\midrule", 1)[1].split(r"\bottomrule")[0].splitlines()
    tex = [re.split(r"(?<!\\)&", line.removesuffix(r" \\")) for line in body if line.endswith(r" \\")]
    tex_notes = dict(re.findall(r"^\\par.*?\\textsuperscript\{(\d+)\} (.*)$", texts["tex"], re.M))
    html = Cells()
    html.feed(texts["html"])
    return {
        "md": list(lines_of(md, r"<sup>([\d,]+)</sup>", md_notes)),
        "tex": list(lines_of(tex, r"\\textsuperscript\{([\d,]+)\}", tex_notes)),
        "html": [
            [
                (column, text, [html.notes[mark] for mark in marks])
                for column, (text, marks) in zip(inner, row, strict=True)
            ]
            for row in filter(None, html.rows)
        ],
    }


def is_ours(column):
    """Whether a column is of numbers of ours."""
    return ", " in column and not column.endswith((", paper", ", difference"))


@pytest.mark.parametrize("name", AFFECTED)
@pytest.mark.parametrize("affects", ALONE_AND_TOGETHER)
def test_each_number_has_the_marks_of_the_deviations_that_affect_it_and_no_other(name, affects, paper_table):
    rows, texts = paper_table(name, [{"text": "made on the moon", "affects": affects}])
    seen = set()
    for kind, lines in cells_of(rows, texts).items():
        assert len(lines) == len(rows)
        for row, line in zip(rows, lines, strict=True):
            for column, text, notes in line:
                title = column.rpartition(", ")[0]
                if is_ours(column) and text:
                    assert notes == ([MOON] if title in affected(name, affects) else []), (kind, column)
                    assert text == rendering.cell_text(row, column) or kind == "tex"
                    seen.add((kind, title))
                else:
                    assert MOON not in notes, (kind, column)
    assert seen == {(kind, title) for kind in ("md", "tex", "html") for title in affected(name, COLUMNS)}


@pytest.mark.parametrize("name", AFFECTED)
@pytest.mark.parametrize("affects", [["is"], ["fid_train"], ["nll_test"]])
def test_only_what_no_deviation_affects_is_compared(name, affects, paper_table):
    rows, _ = paper_table(name, [{"text": "made on the moon", "affects": affects}])
    marked, compared = affected(name, affects), set()
    for row in rows:
        for column in (column for column in row if column.endswith(", difference") and row["Experiment"]):
            title = column.removesuffix(", difference")
            verdict, known = row[f"{title}, verdict"], row[f"{title}, paper"] not in ("", "–")
            if known and title in marked:
                assert (verdict, row[column]) == ("not comparable", "")
            elif known:
                assert verdict in ("reproduced", "close", "not reproduced") and row[column]
                compared.add(title)
    in_paper = {title for title in affected(name, COLUMNS) if f"{title}, paper" in rows[0]}
    assert compared == in_paper - marked


@pytest.mark.parametrize("name", AFFECTED)
@pytest.mark.parametrize("data", ["fashionmnist", "celebahq256"])
def test_another_data_set_marks_every_number_though_nothing_else_is_recorded(name, data, paper_table):
    """Not even where a deviation of some numbers is known, nor where the data are another set of the paper's."""
    rows, texts = paper_table(name, [{"text": "one split", "affects": ["is"]}], data=data)
    for lines in cells_of(rows, texts).values():
        notes = [notes for line in lines for column, text, notes in line if is_ours(column) and text]
        assert notes and all(notes)
        if data == "celebahq256":  # of which the evaluation says nothing, as the paper has it too
            assert all(any(f"data set {data} instead of" in note for note in own) for own in notes)
    for row in rows:
        for column in (column for column in row if column.endswith(", verdict")):
            assert row[column] in ("", "not run", "not comparable", "blank in the paper, stable here")


def test_texts_that_affect_the_same_numbers_of_a_row_are_one_footnote(paper_table):
    deviations = [
        {"text": "a", "affects": list(COLUMNS)},
        {"text": "b", "affects": ["is", "fid_train", "fid_test"]},
        {"text": "c", "affects": ["is", "fid_train", "fid_test", "nll_test", "nll_train"]},
        {"text": "d", "affects": ["is", "fid_train", "fid_test", "nll_test"]},
        {"text": "e", "affects": ["is", "fid_train", "fid_test"]},
    ]
    rows, texts = paper_table("table1", deviations)
    row = next(row for row in rows if row["Model"] == "Ours (L_simple)")
    assert row["IS, Inception note"] == row["FID test, Inception note"]
    said = [f"Not the paper's protocol: {of}." for of in ("a; c", "b; e", "d")]
    assert row["IS, Inception note"].split(" | ") == said
    assert row["NLL train (bits/dim), cifar10 note"] == "Not the paper's protocol: a; c."
    for lines in cells_of(rows, texts).values():  # each number has all of its marks
        assert {column: notes for column, text, notes in lines[-1]}["IS, Inception"] == said
    assert texts["html"].count("<li") == 3 + 1  # and that on the paper's text
    rows, texts = paper_table("table2", deviations)
    assert {row["IS, Inception note"] for row in rows} == {"Not the paper's protocol: a; b; c; d; e."}
    assert texts["html"].count("<li") == 1


@pytest.mark.parametrize(
    "wrong",
    ["300 sample images", {"text": "x", "affects": ["fid"]}, {"text": "x"}, {"text": "x", "affects": "is"}],
)
def test_a_deviation_that_marks_no_known_number_is_refused(wrong, paper_table):
    with pytest.raises(DamagedFile, match=r"metrics\.json: has a deviation that does not say which numbers it affects"):
        paper_table("table1", [wrong])

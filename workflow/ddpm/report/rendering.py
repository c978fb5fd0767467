"""Renders the frame of a table, as it is in its CSV file, in Markdown, LaTeX (booktabs) and HTML."""

import re
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

NOTE_SEPARATOR = " | "
REQUIRED = ("Table", "Scale", "Data", "Experiment")
HIDDEN = REQUIRED
# What belongs to the column before them: spread, bound, footnotes, and the file and key that the number is from.
COMPANIONS = (" ±", " ≤", " note", " from")
GROUPING = ("Group", "Prediction")  # label columns whose repeated cells are shown once
LABELS = (*GROUPING, "Model", "Objective", "Reverse process time (T − t + 1)", "Run")
TELLING = ("Data set", "Network")  # shown where rows differ in them; the caption names them all
WORDS = (*LABELS, *TELLING, "Verdict")  # columns that are not of numbers
SUP = "<sup>{}</sup>"

CAPTIONS = {
    "table1": "Inception Score (IS), FID and negative log likelihood (NLL)",
    "table2": "Reverse process parameterisations and training objectives",
    "table3": "FID against the training set",
    "table4": "Rate and distortion on the test set at ten times of the reverse process",
    "scores": "Other scores, and how certain they are",
}
PUBLISHED_ON = {"table3": "LSUN 256x256"}  # the other tables are of CIFAR10

# Symbols of plain text in LaTeX and in HTML. The first match counts, so longer ones come first.
SYMBOLS = {
    "‖μ̃ − μ̃_θ‖²": (r"$\|\tilde{\mu} - \tilde{\mu}_\theta\|^2$", "‖μ̃ − μ̃<sub>θ</sub>‖²"),
    "‖ε̃ − ε_θ‖²": (r"$\|\tilde{\epsilon} - \epsilon_\theta\|^2$", "‖ε̃ − ε<sub>θ</sub>‖²"),
    "L, learned diagonal Σ": (r"$L$, learned diagonal $\Sigma$", "<i>L</i>, learned diagonal Σ"),
    "L, fixed isotropic Σ": (r"$L$, fixed isotropic $\Sigma$", "<i>L</i>, fixed isotropic Σ"),
    "(T − t + 1)": ("($T - t + 1$)", "(<i>T</i> − <i>t</i> + 1)"),
    "L_simple": (r"$L_\mathrm{simple}$", "<i>L</i><sub>simple</sub>"),
    "μ̃": (r"$\tilde{\mu}$", "μ̃"),
    "ε": (r"$\epsilon$", "ε"),
    "≤": (r"$\le$", "≤"),
    "±": (r"$\pm$", "±"),
    "×": (r"$\times$", "×"),
    "−": ("$-$", "−"),
    "–": ("--", "–"),
    "\\": (r"\textbackslash{}", "\\"),
    "~": (r"\textasciitilde{}", "~"),
    "^": (r"\textasciicircum{}", "^"),
    "<": (r"\textless{}", "&lt;"),
    ">": (r"\textgreater{}", "&gt;"),
    **{character: ("\\" + character, character) for character in "#$%_{}"},
    "&": (r"\&", "&amp;"),
}
TOKENS = re.compile("|".join(re.escape(token) for token in SYMBOLS))
Table = Styler.from_custom_template(Path(__file__).parent, html_table="table.html")


def columns_of(table: pd.DataFrame) -> list[str]:
    """The columns to show: not bookkeeping, companions, verdicts on single numbers, or columns that say nothing."""
    return [
        column
        for column in table
        if column not in HIDDEN
        and not column.endswith((*COMPANIONS, ", verdict"))
        and not (column.endswith(", difference") and not table[column].any())
        and not (column in TELLING and table[column].nunique() == 1)
    ]


def cell_text(row: dict[str, str], column: str) -> str:
    """One cell with its bound before it and its spread after it."""
    text = row[column].replace("-", "−") if is_number(row[column]) else row[column]
    bound = "≤ " if row.get(f"{column} ≤") == "<=" else ""
    spread = f" ± {row[f'{column} ±']}" if row.get(f"{column} ±") else ""
    return bound + text + spread


def is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?\d+(\.\d+)?", text) is not None


def caption_of(table: pd.DataFrame) -> str:
    """One line: which table of the paper, what stands beside it, at which scale."""
    name, scale, data = table.loc[0, ["Table", "Scale", "Data"]]
    title = CAPTIONS.get(name, name)
    here = f"{data} at scale {scale}" if scale else "nothing run yet"
    if not name.startswith("table"):
        return f"{title}: {here}, scored by {' and '.join(table['Network'].unique())}."
    label, paper = f"Table {name.removeprefix('table')}", PUBLISHED_ON.get(name, "CIFAR10")
    return f"{label}. {title}: the paper on {paper} beside {here}."


def with_footnotes(
    table: pd.DataFrame, text: Callable[[str], str], raised: str, mark: Callable[[int], str] = str, linked: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """The cells to show, and the footnotes in the order in which a reader meets them, each of them once.

    Args:
        text: writes words in the format that is made. raised: a template of what stands raised in it.
        mark: writes the number (from 1) of a footnote.
        linked: whether a number leads, in HTML, to where the page tells what it is from.
    """
    columns, notes = columns_of(table), {}

    def written(row: dict[str, str], column: str) -> str:
        own = [note for note in row.get(f"{column} note", "").split(NOTE_SEPARATOR) if note]
        numbers = [notes.setdefault(note, len(notes) + 1) for note in own]
        shown, entry = text(cell_text(row, column)), escape(row.get(f"{column} from", ""))
        if linked and entry:
            shown = f'<a class="from" href="#{entry}" title="{entry}">{shown}</a>'
        return shown + (raised.format(",".join(map(mark, numbers))) if numbers else "")

    cells = [[written(row, column) for column in columns] for row in table.to_dict("records")]
    return pd.DataFrame(cells, columns=columns), [text(note) for note in notes]


def without_repeats(cells: pd.DataFrame) -> pd.DataFrame:
    """The same, with a blank for a grouping cell that says what the one above it says."""
    own = cells[[column for column in GROUPING if column in cells]]
    return cells.assign(**own.mask(own == own.shift(), ""))


def headings(columns: Iterable[str], text: Callable[[str], str]) -> list[tuple[str, str]]:
    """'IS, paper' and 'IS, ours' have one heading, IS, and below it what each is; others have a heading alone."""
    pairs = [(column, "") if column in LABELS else column.partition(", ")[::2] for column in columns]
    return [(text(above), text(below)) for above, below in pairs]


def to_markdown(table: pd.DataFrame) -> str:
    """A GitHub table under a bold caption; footnotes as numbered lines below."""
    cells, notes = with_footnotes(table, escape_markdown, SUP)
    printed = without_repeats(cells).to_markdown(
        index=False,
        headers=[escape_markdown(column) for column in cells],
        colalign=["left" if column in WORDS else "right" for column in cells],
        disable_numparse=True,  # keeps the digits as they are
    )
    listed = "".join(f"{i}. {note}\n" for i, note in enumerate(notes, 1))
    return f"**{escape_markdown(caption_of(table))}**\n\n{printed}\n" + (f"\n{listed}" if listed else "")


def escape_markdown(text: str) -> str:
    return re.sub(r"([\\|*`<>\[\]])", r"\\\1", text)


def to_latex(table: pd.DataFrame) -> str:
    """A booktabs table environment with a two-line header and the footnotes under the rule."""
    cells, notes = with_footnotes(table, escape_latex, r"\textsuperscript{{{}}}")
    widths = {column: "l" for column in WORDS} | {"Verdict": r">{\raggedright\arraybackslash}p{11em}"}
    spec = "".join(widths.get(column, "r") for column in cells)
    cells = without_repeats(cells)
    group = cells.iloc[:, 0]
    if group.name in GROUPING:  # a rule above each group but the first
        cells[group.name] = group.mask((group != "") & (group.index > 0), "\\midrule\n" + group)
    # A column without a heading above it has its title in the lower line.
    cells.columns = pd.MultiIndex.from_tuples(
        (above, below) if below else ("", above) for above, below in headings(cells, escape_latex)
    )
    tabular = Styler(cells).hide().to_latex(column_format=f"@{{}}{spec}@{{}}", hrules=True, multicol_align="c")
    tabular = tabular.replace("\\\n", "\\\n" + rules_below(cells.columns.get_level_values(0)), 1)
    printed = [rf"\par\smallskip\raggedright\textsuperscript{{{i}}} {note}" for i, note in enumerate(notes, 1)]
    return "\n".join(
        [
            r"% Needs \usepackage{array,booktabs,graphicx}; shrinks to the width of the line where it must.",
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{escape_latex(caption_of(table))}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            tabular.rstrip() + "}",
            *printed,
            r"\end{table}",
            "",
        ]
    )


def rules_below(headings: pd.Index) -> str:
    """A line of rules, one below each heading and as wide as that; nothing where there are none."""
    places = pd.Series(range(1, len(headings) + 1)).groupby(headings, sort=False).agg(["min", "max"])
    rules = [rf"\cmidrule(lr){{{first}-{last}}}" for heading, first, last in places.itertuples() if heading]
    return " ".join(rules) + "\n" if rules else ""


def escape_latex(text: str) -> str:
    return TOKENS.sub(lambda match: SYMBOLS[match.group()][0], text)


def to_html(table: pd.DataFrame, linked: bool = False) -> str:
    """A bare <table class="results"> with caption, scopes and row groups, then its footnotes; plain ASCII.

    ASCII (with character references) reads right even where the fragment is opened without a charset.
    """
    name = table.loc[0, "Table"]
    cells, notes = with_footnotes(table, escape_html, SUP, lambda i: f'<a href="#{name}-note-{i}">{i}</a>', linked)
    labels = [column for column in cells if column in LABELS]
    kinds = ["verdict" if column == "Verdict" else "words" if column in WORDS else "" for column in cells]
    cells = cells.set_index(labels)
    cells.columns = pd.MultiIndex.from_tuples(headings(cells, escape_html))
    text = Table(cells).to_html(
        caption=escape_html(caption_of(table)), exclude_styles=True, name=name, notes=notes, kinds=kinds[len(labels) :],
        labels=[escape_html(label) for label in labels],
    )  # fmt: skip
    return text.encode("ascii", "xmlcharrefreplace").decode() + "\n"


def escape_html(text: str) -> str:
    # Quotes are of no harm in text; everything else that HTML reads is among the symbols.
    return TOKENS.sub(lambda match: SYMBOLS[match.group()][1], text)

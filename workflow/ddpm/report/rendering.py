"""A table's CSV rows as Markdown, LaTeX (booktabs) and HTML. Nothing is known here but the rows."""

import re
from itertools import groupby

NOTE_SEPARATOR = " | "
REQUIRED = ("Table", "Scale", "Data", "Experiment")
HIDDEN = REQUIRED
COMPANIONS = (" ±", " ≤", " note")  # what belongs to the column before them: spread, bound and footnotes
GROUPING = ("Group", "Prediction")  # label columns whose repeated cells are shown once
LABELS = (*GROUPING, "Model", "Objective", "Reverse process time (T − t + 1)", "Run")
TELLING = ("Data set", "Network")  # shown where they tell rows apart; the caption names them all
WORDS = (*LABELS, *TELLING, "Verdict")  # columns that are not of numbers

CAPTIONS = {
    "table1": "Inception Score (IS), FID and negative log likelihood (NLL)",
    "table2": "Reverse process parameterisations and training objectives",
    "table3": "FID against the training set",
    "table4": "Rate and distortion on the test set at ten times of the reverse process",
    "scores": "Other scores, and how certain they are",
}
PUBLISHED_ON = {"table3": "LSUN 256x256"}  # the other tables are of CIFAR10

# What plain text cannot say well, as (LaTeX, HTML); longer ones come first so that they win.
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


def columns_of(rows: list[dict[str, str]]) -> list[str]:
    """The columns to show: no bookkeeping, no companions, no verdicts but the row's, none that says nothing."""
    return [
        column
        for column in rows[0]
        if column not in HIDDEN
        and not column.endswith((*COMPANIONS, ", verdict"))
        and not (column.endswith(", difference") and not any(row[column] for row in rows))
        and not (column in TELLING and len({row[column] for row in rows}) == 1)
    ]


def cell(row: dict[str, str], column: str) -> str:
    """One cell with its bound before it and its spread after it."""
    text = row[column].replace("-", "−") if is_number(row[column]) else row[column]
    bound = "≤ " if row.get(f"{column} ≤") == "<=" else ""
    spread = f" ± {row[f'{column} ±']}" if row.get(f"{column} ±") else ""
    return bound + text + spread


def is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?\d+(\.\d+)?", text) is not None


def caption(rows: list[dict[str, str]]) -> str:
    """One line: which table of the paper, what stands beside it, at which scale."""
    row = rows[0]
    name, title = row["Table"], CAPTIONS.get(row["Table"], row["Table"])
    here = f"{row['Data']} at scale {row['Scale']}" if row["Scale"] else "nothing run yet"
    if not name.startswith("table"):
        networks = " and ".join(dict.fromkeys(row["Network"] for row in rows))
        return f"{title}: {here}, scored by {networks}."
    label, paper = f"Table {name.removeprefix('table')}", PUBLISHED_ON.get(name, "CIFAR10")
    return f"{label}. {title}: the paper on {paper} beside {here}."


def footnotes(rows: list[dict[str, str]], columns: list[str]) -> tuple[list[str], list[list[list[int]]]]:
    """The distinct footnotes in the order in which a reader meets them, and each cell's references to them (from 1)."""
    notes: dict[str, int] = {}

    def marks(row: dict[str, str], column: str) -> list[int]:
        own = row.get(f"{column} note", "").split(NOTE_SEPARATOR)
        return [notes.setdefault(note, len(notes) + 1) for note in own if note]

    found = [[marks(row, column) for column in columns] for row in rows]
    return list(notes), found


def body(rows: list[dict[str, str]], columns: list[str]) -> list[list[str]]:
    return [[cell(row, column) for column in columns] for row in rows]


def without_repeats(lines: list[list[str]], columns: list[str]) -> list[list[str]]:
    """Blank a grouping cell that says the same as the one above it."""
    shown = [list(line) for line in lines]
    for k, column in enumerate(columns):
        if column in GROUPING:
            for i in range(1, len(lines)):
                if lines[i][k] == lines[i - 1][k]:
                    shown[i][k] = ""
    return shown


def header_groups(columns: list[str]) -> list[tuple[str, list[str]]]:
    """Columns under common headings: 'IS, paper' and 'IS, ours' give ('IS', ['paper', 'ours'])."""
    parts = [(column, "") if column in LABELS else column.partition(", ")[::2] for column in columns]
    return [(name, [second for _, second in group]) for name, group in groupby(parts, key=lambda part: part[0])]


def markdown(rows: list[dict[str, str]]) -> str:
    """A GitHub table under a bold caption; footnotes as numbered lines below."""
    columns = columns_of(rows)
    notes, marks = footnotes(rows, columns)
    lines = [
        [
            markdown_text(text) + (f"<sup>{','.join(map(str, numbers))}</sup>" if numbers else "")
            for text, numbers in zip(*line, strict=True)
        ]
        for line in zip(without_repeats(body(rows, columns), columns), marks, strict=True)
    ]
    aligned = [":---" if column in WORDS else "---:" for column in columns]
    table = [[markdown_text(column) for column in columns], aligned, *lines]
    text = [f"**{markdown_text(caption(rows))}**", "", *("| " + " | ".join(line) + " |" for line in table)]
    return "\n".join([*text, "", *(f"{i}. {markdown_text(note)}" for i, note in enumerate(notes, 1))]).rstrip() + "\n"


def markdown_text(text: str) -> str:
    return re.sub(r"([\\|*`<>\[\]])", r"\\\1", text)


def latex(rows: list[dict[str, str]]) -> str:
    """A booktabs table environment with a two-line header and the footnotes under the rule."""
    columns = columns_of(rows)
    notes, marks = footnotes(rows, columns)
    lines = without_repeats(body(rows, columns), columns)
    printed = []
    for i, line in enumerate(zip(lines, marks, strict=True)):
        texts = [
            latex_text(text) + (rf"\textsuperscript{{{','.join(map(str, numbers))}}}" if numbers else "")
            for text, numbers in zip(*line, strict=True)
        ]
        if i and columns[0] in GROUPING and texts[0]:
            printed.append(r"\midrule")
        printed.append(" & ".join(texts) + r" \\")
    widths = {column: "l" for column in WORDS} | {"Verdict": r">{\raggedright\arraybackslash}p{11em}"}
    spec = "".join(widths.get(column, "r") for column in columns)
    return "\n".join(
        [
            r"% Needs \usepackage{array,booktabs,graphicx}; shrinks to the width of the line where it must.",
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{latex_text(caption(rows))}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{@{{}}{spec}@{{}}}}",
            r"\toprule",
            *latex_header(columns),
            r"\midrule",
            *printed,
            r"\bottomrule",
            r"\end{tabular}}",
            *(rf"\par\smallskip\raggedright\textsuperscript{{{i}}} {latex_text(n)}" for i, n in enumerate(notes, 1)),
            r"\end{table}",
            "",
        ]
    )


def latex_header(columns: list[str]) -> list[str]:
    """Group titles over rules, then the titles below them."""
    upper, rules, lower, position = [], [], [], 1
    for name, below in header_groups(columns):
        width, title = len(below), latex_text(name)
        if any(below):
            upper.append(rf"\multicolumn{{{width}}}{{c}}{{{title}}}")
            rules.append(rf"\cmidrule(lr){{{position}-{position + width - 1}}}")
            lower += [latex_text(text) for text in below]
        else:
            upper.append("")
            lower.append(title)
        position += width
    return [" & ".join(upper) + r" \\", *([" ".join(rules)] if rules else []), " & ".join(lower) + r" \\"]


def latex_text(text: str) -> str:
    return TOKENS.sub(lambda match: SYMBOLS[match.group()][0], text)


def html(rows: list[dict[str, str]]) -> str:
    """A bare <table class="results"> with caption, scopes and row groups, then its footnotes; plain ASCII.

    ASCII (with character references) reads right even where the fragment is opened without a charset.
    """
    columns = columns_of(rows)
    notes, marks = footnotes(rows, columns)
    name = rows[0]["Table"]
    out = ['<table class="results">', f"<caption>{html_text(caption(rows))}</caption>", "<thead>"]
    out += [*html_header(columns), "</thead>", "<tbody>"]
    lines = body(rows, columns)
    for i in range(len(lines)):
        out.append("<tr>" + "".join(html_cells(lines, i, columns, name, marks[i])) + "</tr>")
    out += ["</tbody>", "</table>"]
    if notes:
        items = [f'<li id="{name}-note-{i}">{html_text(note)}</li>' for i, note in enumerate(notes, 1)]
        out += ['<ol class="footnotes">', *items, "</ol>"]
    return "\n".join(out).encode("ascii", "xmlcharrefreplace").decode() + "\n"


def html_header(columns: list[str]) -> list[str]:
    upper, lower = [], []
    for name, below in header_groups(columns):
        if any(below):
            upper.append(f'<th scope="colgroup" colspan="{len(below)}">{html_text(name)}</th>')
            lower += [f'<th scope="col">{html_text(text)}</th>' for text in below]
        else:
            kind = "" if name in WORDS else ' class="number"'
            upper.append(f'<th scope="col" rowspan="2"{kind}>{html_text(name)}</th>')
    return [f"<tr>{''.join(upper)}</tr>", f"<tr>{''.join(lower)}</tr>"]


def html_cells(lines: list[list[str]], i: int, columns: list[str], name: str, marks: list[list[int]]) -> list[str]:
    """The cells of row i; a grouping cell spans all the rows that repeat it."""
    out = []
    for k, column in enumerate(columns):
        links = ",".join(f'<a href="#{name}-note-{mark}">{mark}</a>' for mark in marks[k])
        text = html_text(lines[i][k]) + (f"<sup>{links}</sup>" if links else "")
        if column in GROUPING:
            if i and lines[i - 1][k] == lines[i][k]:
                continue
            span = next((j for j in range(i, len(lines)) if lines[j][k] != lines[i][k]), len(lines)) - i
            out.append(f'<th scope="rowgroup" rowspan="{span}">{text}</th>')
        elif column in LABELS:
            out.append(f'<th scope="row">{text}</th>')
        elif column in WORDS:
            out.append(f'<td class="{"verdict" if column == "Verdict" else "words"}">{text}</td>')
        else:
            out.append(f"<td>{text}</td>")
    return out


def html_text(text: str) -> str:
    # Quotes are of no harm in text; everything else that HTML reads is among the symbols.
    return TOKENS.sub(lambda match: SYMBOLS[match.group()][1], text)

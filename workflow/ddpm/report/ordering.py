"""Does the paper's ordering hold? Sentences that compare the ranks of Table 2's rows here and in the paper."""

from itertools import combinations
from math import hypot

from ddpm.report.inputs import PUBLISHED, find_run
from ddpm.report.numbers import mean_over_seeds
from ddpm.storage.tables import read_table

# (what it is called, column, whether larger is better)
MEASURES = (("Inception Score", "is", True), ("FID (training set)", "fid_train", False))


def describe_ordering(runs: list[dict]) -> list[str]:
    """Sentences that compare the six rows of Table 2 here with the paper; the first one is the answer.

    runs: from `numbers.group_repeats`.
    """
    rows = [match_row(paper, runs) for paper in read_table(PUBLISHED / "table2.csv").to_dict("records")]
    findings = [compare_by(rows, *measure) for measure in MEASURES]
    agreed, compared = (sum(finding[k] for finding in findings) for k in (0, 1))
    return [headline(agreed, compared), *(finding[2] for finding in findings), *describe_blank_rows(rows)]


def match_row(paper: dict[str, str], runs: list[dict]) -> dict:
    """One row of Table 2: its name, the paper's numbers, and ours if it was run and stayed stable."""
    run = find_run(runs, paper["parameterization"], paper["objective"], paper["variance"])
    return {
        "name": f"{paper['prediction'].partition(' ')[0]} prediction with {paper['loss']}",
        "paper": {key: float(paper[key]) if paper[key] else None for key in ("is", "fid_train")},
        "run": run,
        "ours": mean_over_seeds(run),
    }


def compare_by(rows: list[dict], title: str, column: str, larger: bool) -> tuple[int, int, str]:
    """For one measure: pairs of rows in the paper's order, pairs compared, and a sentence.

    Two numbers that differ here by less than their standard errors together have no order, and are not compared.
    """
    both = [row for row in rows if column in row["ours"] and row["paper"][column] is not None]
    if len(both) < 2:
        return 0, 0, f"{title}: fewer than two rows have a number both here and in the paper."
    agreed = compared = close = 0
    for first, second in combinations(both, 2):
        one, other = first["ours"][column], second["ours"][column]
        if abs(one.value - other.value) <= hypot(one.error, other.error):
            close += 1
            continue
        compared += 1
        agreed += (one.value > other.value) == (first["paper"][column] > second["paper"][column])
    choose = max if larger else min
    here = choose(both, key=lambda row: row["ours"][column].value)
    there = choose(both, key=lambda row: row["paper"][column])
    same = f"as in the paper ({there['paper'][column]:.2f})"
    other = f"but {there['name']} in the paper ({there['paper'][column]:.2f}; {there['ours'][column].value:.3g} here)"
    undecided = f"; {close} more differ by less than their uncertainty" if close else ""
    return agreed, compared, (
        f"{title}: the best of the {len(both)} rows is {here['name']} here ({here['ours'][column].value:.3g}), "
        f"{same if here is there else other}. {agreed} of {compared} pairs of rows are in the paper's order{undecided}."
    )  # fmt: skip


def headline(agreed: int, compared: int) -> str:
    if not compared:
        return "Not enough rows of Table 2 were measured here to say whether the paper's ordering holds."
    of = f"{agreed} of {compared} comparisons between its rows come out as there"
    if agreed == compared:
        return f"The paper's ordering of Table 2 holds here: {of}."
    if 2 * agreed > compared:
        return f"The paper's ordering of Table 2 holds here in part: {of}."
    return f"The paper's ordering of Table 2 does not hold here: {of}, no more than chance would give."


def describe_blank_rows(rows: list[dict]) -> list[str]:
    """A sentence on each row that was unstable in the paper or here."""
    sentences = []
    for row in rows:
        if row["run"] is None:
            continue
        ours = {title: row["ours"][column].value for title, column, _ in MEASURES if column in row["ours"]}
        scores = ", ".join(f"{title} {value:.3g}" for title, value in ours.items()) or "no scores"
        match row["paper"]["fid_train"] is None, row["run"]["status"] == "unstable":
            case True, True:
                sentences.append(f"{row['name']}: blank in the paper as unstable, and unstable here too.")
            case True, False:
                sentences.append(f"{row['name']}: blank in the paper as unstable, but stable here ({scores}).")
            case False, True:
                sentences.append(f"{row['name']}: stable in the paper, but unstable here.")
    return sentences

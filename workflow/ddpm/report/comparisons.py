"""Each number of the paper and ours beside it, as the CSV files of the tables hold them."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from ddpm.report import rendering, verdicts

TIME = "Reverse process time (T − t + 1)"  # what tells the rows of Table 4 apart
NOT_OURS = (", paper", ", difference", ", verdict", *rendering.COMPANIONS)
# The verdicts that are counted even where no number has them, in their order.
COUNTED = (
    *(verdicts.REPRODUCED, verdicts.CLOSE, verdicts.NOT_REPRODUCED),
    *(verdicts.NOT_COMPARABLE, verdicts.NOT_RUN),
)


@dataclass(frozen=True)
class Comparison:
    """One number of the paper, and ours; both as the table has them, ours "" where there is none."""

    quantity: str  # 'FID train', 'Rate (bits/dim)', ...
    row: str
    paper: str
    ours: str
    errors: tuple[float, float]  # of the two, 0 where none is given
    marked: bool  # whether a deviation affects ours
    verdict: str
    entry: str  # the file and the key that ours comes from

    @property
    def published(self) -> float:
        return float(self.paper)

    @property
    def reproduced(self) -> float:
        return float(self.ours)


def compare_numbers(tables: Iterable[pd.DataFrame]) -> list[Comparison]:
    """The numbers that the paper gives of its own models, in order; what two tables hold is there once.

    No two models of the paper have the same number of one quantity. A number that one table has not run, and another
    has, was run.
    """
    found: dict[tuple, Comparison] = {}
    for table in tables:
        for row in table.to_dict("records"):
            for each in compare_row(row):
                number = each.quantity, each.paper, row.get(TIME)
                if number not in found or found[number].verdict == verdicts.NOT_RUN:
                    found[number] = each
    return list(found.values())


def compare_row(row: dict[str, str]) -> list[Comparison]:
    """The numbers of the paper in a row ('IS, paper'), with ours ('IS, Inception') and the verdicts."""
    found = []
    # 'eps-simple' for an experiment of that method, and the time for a row of Table 4.
    name = row.get(TIME) or re.sub(r"^.*?-(?=(eps|mu|x0)-)", "", row["Experiment"])
    for column in row:
        quantity = column.removesuffix(", paper")
        if quantity == column or not rendering.is_number(row[column]) or not row[f"{quantity}, verdict"]:
            continue
        ours = next(other for other in row if other.startswith(f"{quantity}, ") and not other.endswith(NOT_OURS))
        errors = tuple(float(row.get(f"{side} ±") or 0) for side in (column, ours))
        marked, verdict = bool(row[f"{ours} note"]), row[f"{quantity}, verdict"]
        entry = row.get(f"{ours} from", "")
        found.append(Comparison(quantity, name, row[column], row[ours], errors, marked, verdict, entry))
    return found


def count_verdicts(comparisons: list[Comparison]) -> dict[str, int]:
    """How many numbers have each verdict; 0 for those of `COUNTED` that none has."""
    counted = Counter(each.verdict for each in comparisons)
    return dict.fromkeys(COUNTED, 0) | dict(counted)

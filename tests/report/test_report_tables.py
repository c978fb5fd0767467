"""Tables: the published numbers, the verdicts, and that everything is rendered from the CSV alone."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from records import read_records

from ddpm.config.errors import DamagedFile, UserError
from ddpm.report import rendering
from ddpm.report.inputs import PUBLISHED
from ddpm.report.tables import make_table
from ddpm.storage.tables import read_table, write_table


@pytest.fixture
def table(tmp_path):
    """Make a table; give its CSV rows and the texts by format."""

    def build(name, metrics, curves=()):
        paths = {suffix: tmp_path / "tables" / f"{name}.{suffix}" for suffix in ("csv", "md", "tex", "html")}
        make_table(name, list(metrics), list(curves), *paths.values())
        return read_records(paths["csv"]), {key: path.read_text(encoding="utf-8") for key, path in paths.items()}

    return build


def row_of(rows, **labels):
    (found,) = [row for row in rows if all(row[key] == value for key, value in labels.items())]
    return found


# What the paper printed


def test_published_table1():
    rows = read_records(PUBLISHED / "table1.csv")
    assert len(rows) == 16
    simple = row_of(rows, model="Ours (L_simple)")
    assert (simple["is"], simple["is_std"], simple["fid_train"], simple["fid_test"]) == (
        "9.46",
        "0.11",
        "3.17",
        "5.24",
    )
    assert (simple["nll_bound"], simple["nll_test"], simple["nll_train"]) == ("<=", "3.75", "3.72")
    bound = row_of(rows, parameterization="eps", objective="vlb", variance="fixed")
    assert (bound["is"], bound["is_std"], bound["fid_train"], bound["nll_test"]) == (
        "7.67",
        "0.13",
        "13.51",
        "3.70",
    )
    assert row_of(rows, model="NCSN")["is_std"] == "0.12"
    assert row_of(rows, group="Unconditional", model="EBM")["fid_train"] == "38.2"
    assert row_of(rows, model="Gated PixelCNN")["nll_train"] == "2.90"


def test_published_table2_has_six_methods_of_which_two_are_blank():
    rows = read_records(PUBLISHED / "table2.csv")
    methods = {(row["parameterization"], row["objective"], row["variance"]): row for row in rows}
    assert len(methods) == len(rows) == 6
    blank = [method for method, row in methods.items() if not row["is"] and not row["fid_train"]]
    assert sorted(blank) == [("eps", "vlb", "learned"), ("mu", "simple", "fixed")]
    assert methods["mu", "vlb", "learned"]["fid_train"] == "23.69"
    assert methods["mu", "vlb", "fixed"]["is"] == "8.06"
    assert methods["eps", "simple", "fixed"]["fid_train"] == "3.17"


def test_published_table4():
    rows = [
        (int(r["reverse_time"]), float(r["rate"]), float(r["distortion"]))
        for r in read_records(PUBLISHED / "table4.csv")
    ]
    assert rows == [
        (1000, 1.77581, 0.95136),
        (900, 0.11994, 12.02277),
        (800, 0.05415, 18.47482),
        (700, 0.02866, 24.43656),
        (600, 0.01507, 30.80948),
        (500, 0.00716, 38.03236),
        (400, 0.00282, 46.12765),
        (300, 0.00081, 54.18826),
        (200, 0.00013, 60.9717),
        (100, 0.0, 67.60125),
    ]


# Verdicts


def test_a_run_off_the_protocol_is_not_compared(table, results, make):
    rows, texts = table("table1", [results.add(make.metrics())])
    row = row_of(rows, Model="Ours (L_simple)")
    assert row["Verdict"] == "not comparable"
    assert not row["Verdict note"].startswith("Not the paper's protocol")
    assert (row["IS, digits classifier"], row["IS, digits classifier ±"]) == ("7.21", "0.24")
    assert (row["FID train, digits classifier"], row["FID test, digits classifier"]) == ("12.35", "14.50")
    assert row["NLL test (bits/dim), digits"] == "4.12"
    assert row["NLL test (bits/dim), digits ≤"] == "<="
    assert not any(row[column] for column in row if column.endswith("difference"))
    assert make.deviations[0] in texts["md"]


def test_our_scores_are_never_titled_without_their_network(table, results, make):
    rows, _ = table("table1", [results.add(make.metrics())])
    scores = [column for column in rows[0] if column.startswith(("IS", "FID"))]
    assert scores and all(
        any(word in column for word in ("paper", "digits classifier", "difference", "verdict")) for column in scores
    )


def test_the_papers_protocol_is_compared(table, results, make):
    path = results.add(make.as_published("eps-simple", 9.4, 0.1, 3.32) | {"nll": None})
    rows, _ = table("table1", [path])
    row = row_of(rows, Model="Ours (L_simple)")
    assert (row["IS, difference"], row["FID train, difference"]) == ("-0.06", "+0.15")
    assert row["FID test, difference"] == "+0.08"
    assert row["NLL test (bits/dim), difference"] == ""
    assert [row[f"{title}, verdict"] for title in ("IS", "FID train", "FID test", "NLL test (bits/dim)")] == [
        "reproduced", "close", "reproduced", "not measured",
    ]  # fmt: skip
    assert row["Verdict"] == "IS, FID test: reproduced; FID train: close; NLL test, NLL train: not measured"


def test_the_authors_weights_are_compared_and_it_is_said_whose_they_are(table, results, make):
    theirs = {"text": "the authors' weights of step 790,000, not trained here", "affects": []}
    run = make.as_published("eps-simple", 9.46, 0.1, 3.17) | {"nll": None, "deviations": [theirs]}
    run["made_from"]["weights"] = {"status": "released", "checkpoint": "final", "step": 790_000}
    rows, texts = table("table1", [results.add(run)])
    row = row_of(rows, Model="Ours (L_simple)")
    assert row["FID train, verdict"] == "reproduced"
    assert "The authors' weights of step 790,000, not trained here." in texts["md"]
    assert "Checkpoint" not in texts["md"]
    assert row_of(rows, Model="Ours (L, fixed isotropic Σ)")["Verdict"] == "not run"


def test_what_affects_no_number_is_said_beside_the_checkpoint_and_leaves_the_verdict(table, results, make):
    truncated = {"text": "samples are truncated to 256 levels", "affects": []}
    run = make.as_published("eps-simple", 9.46, 0.1, 3.17) | {"nll": None, "deviations": [truncated]}
    run["made_from"]["weights"] = {"status": "trained", "checkpoint": "final", "step": 800_000}
    rows, texts = table("table1", [results.add(run)])
    assert row_of(rows, Model="Ours (L_simple)")["FID train, verdict"] == "reproduced"
    assert all(text in texts["md"] for text in ("Samples are truncated to 256 levels.", "Checkpoint: final, step"))


def test_the_fid_by_the_statistics_that_the_papers_is_against_is_named_in_table_1(table, results, make):
    ttur = {"score": "FID", "split": "train", "publisher": "TTUR", "source": "a.npz", "value": 3.254, "reason": None}
    path = results.add(make.as_published("eps-simple", 9.4, 0.1, 3.32) | {"published": [ttur]})
    said = "FID train against TTUR's published statistics, as the paper's: 3.25."
    rows, texts = table("table1", [path])
    assert said in row_of(rows, Model="Ours (L_simple)")["Verdict note"] and said in texts["md"]
    assert said not in table("table2", [path])[1]["md"]


def test_far_off_is_said_with_the_quantity(table, results, make):
    rows, _ = table("table2", [results.add(make.as_published("eps-simple", 9.4, 0.1, 6.0))])
    row = row_of(rows, Experiment="digits-eps-simple")
    assert row["Verdict"] == "IS: reproduced; FID train: not reproduced"
    assert "FID test, verdict" not in row  # of which Table 2 has none


def test_another_data_set_is_not_comparable_even_if_no_deviation_is_recorded(table, results, make):
    rows, _ = table("table2", [results.add(make.metrics(deviations=[]))])
    row = row_of(rows, Experiment="digits-eps-simple")
    assert row["Verdict"] == "not comparable"
    said = "Not the paper's protocol: data set digits instead of CIFAR10."
    assert [row[f"{title}, digits classifier note"] for title in ("IS", "FID train", "FID test")] == [said] * 3


def test_unstable_blank_and_missing_rows(table, results, make):
    paths = [
        results.add(make.unstable("eps-vlb-learned")),
        results.add(make.unstable("mu-vlb-fixed")),
        results.add(make.metrics("mu-simple")),
    ]
    rows, texts = table("table2", paths)
    by_experiment = {row["Experiment"]: row for row in rows}
    both, ours_only, stable = (by_experiment[f"digits-{m}"] for m in ("eps-vlb-learned", "mu-vlb-fixed", "mu-simple"))
    assert (both["Verdict"], both["IS, paper"], both["IS, digits classifier"]) == (
        "unstable as in the paper",
        "–",
        "–",
    )
    assert "step 1,234" in both["Verdict note"] and make.reason in both["Verdict note"]
    assert (ours_only["Verdict"], ours_only["IS, paper"], ours_only["IS, digits classifier"]) == (
        "unstable here only", "8.06", "–",
    )  # fmt: skip
    assert (stable["Verdict"], stable["IS, digits classifier"]) == ("blank in the paper, stable here", "7.21")
    missing = [row for row in rows if not row["Experiment"]]
    assert len(missing) == 3 and {row["Verdict"] for row in missing} == {"not run"}
    assert {row["IS, digits classifier"] for row in missing} == {""}
    assert texts["html"].count("<li") == 2  # two unstable runs share a footnote, the deviations are another


def test_nothing_run_still_gives_the_papers_table(table):
    for name in ("table1", "table2", "table3", "table4"):
        rows, texts = table(name, [])
        assert {row["Verdict"] for row in rows} <= {"not run", "baseline"}
        assert "nothing run yet" in texts["md"]
        assert {"table3": "19.75", "table4": "1.77581"}.get(name, "3.17") in texts["md"]


def test_the_untrained_baseline_is_in_no_table(table, results, make):
    untrained = make.metrics() | {
        "experiment": "digits-eps-simple-untrained",
        "fid": {"train": 999.0, "test": 999.0},
    }
    rows, texts = table("table2", [results.add(untrained)])
    assert {row["Verdict"] for row in rows} == {"not run"}
    assert "999" not in texts["csv"]


def test_both_fixed_variances_belong_to_one_row_and_it_says_so(table, results, make):
    small = make.metrics("eps-vlb-fixed") | {
        "experiment": "digits-eps-vlb-small",
        "method": {"parameterization": "eps", "objective": "vlb", "variance": "fixedsmall"},
    }
    alone, _ = table("table2", [results.add(small)])
    assert row_of(alone, Experiment="digits-eps-vlb-small")["Verdict"] == "not comparable"
    both, _ = table("table2", [*results.metrics, results.add(make.metrics("eps-vlb-fixed"))])
    assert "digits-eps-vlb-small also belongs" in row_of(both, Experiment="digits-eps-vlb-fixed")["Verdict note"]


def test_a_mixture_is_refused(table, results, make):
    other = make.metrics("eps-vlb-fixed", data={"name": "cifar10", "title": "CIFAR10"})
    with pytest.raises(UserError, match="mix data sets: cifar10, digits"):
        table("table2", [results.add(make.metrics()), results.add(other)])


def test_an_unknown_table_and_a_damaged_file_are_named(table, results):
    with pytest.raises(UserError, match=r"table5.*Tables: table1, table2, table3, table4, scores"):
        table("table5", [])
    broken = results.root / "metrics.json"
    broken.parent.mkdir(parents=True)
    broken.write_text('{"experiment": "x"}')
    with pytest.raises(DamagedFile, match=r"metrics.json: has no scale"):
        table("table1", [broken])


# Table 4


def test_few_step_scores_are_in_no_table(table, results, make):
    scores, shard = results.few_steps()
    run = results.add(make.metrics())
    for name in ("table1", "table2", "table4"):
        for wrong in (scores, shard):
            with pytest.raises(UserError, match=rf"{wrong.name}: "):
                table(name, [run, wrong])
    with pytest.raises(UserError, match=r"few_steps\.csv: has the columns"):
        table("table4", [run], [scores])


def test_table4_matches_the_same_fraction_of_t(table, results, make):
    rows, _ = table("table4", [results.add(make.metrics())], [results.rate_distortion(50)])
    assert [row["Time matched here"] for row in rows] == [f"{n} of 50" for n in range(50, 0, -5)]
    # Reverse time 5 of 50 is t = 46.
    assert rows[-1]["Distortion (RMSE), digits"] == f"{70 * 46 / 50:.5f}"
    assert rows[-1]["Distortion (mean of per-image RMSE), digits"] == f"{69 * 46 / 50:.5f}"
    assert rows[0]["Rate (bits/dim), paper"] == "1.77581"
    assert {row["Verdict"] for row in rows} == {"not comparable"}
    assert "Here T = 50" in rows[0]["Verdict note"]


def test_table4_leaves_blank_what_has_no_whole_step(table, results, make):
    rows, _ = table("table4", [results.add(make.metrics())], [results.rate_distortion(8)])
    matched = {
        row["Reverse process time (T − t + 1)"]: row["Time matched here"] for row in rows if row["Time matched here"]
    }
    assert matched == {"1000": "8 of 8", "500": "4 of 8"}
    assert rows[1]["Verdict"] == "no such time here" and rows[1]["Rate (bits/dim), digits"] == ""


def test_table4_takes_the_curve_of_the_simple_run(table, results, make):
    curves = [results.rate_distortion(10, "digits-eps-vlb-fixed"), results.rate_distortion(50)]
    rows, _ = table("table4", [results.add(make.metrics())], curves)
    assert rows[0]["Time matched here"] == "50 of 50"
    unrun, _ = table("table4", [results.metrics[0]], curves[:1])
    assert {row["Verdict"] for row in unrun} == {"not run"}


def test_table4_of_the_papers_protocol_and_of_an_unstable_run(table, results, make):
    path = results.add(make.as_published("eps-simple", 9.4, 0.1, 3.2))
    rows, _ = table("table4", [path], [results.rate_distortion(1000)])
    assert rows[-1]["Distortion (RMSE), difference"] == f"{70 * 0.901 - 67.60125:+.5f}"
    assert rows[-1]["Verdict"] == "Rate: reproduced; Distortion: close"  # 6.7 % off
    unstable, _ = table("table4", [results.add(make.unstable("eps-simple"))])
    assert {row["Verdict"] for row in unstable} == {"unstable here only"}


# Rendering


def test_rendering_knows_nothing_but_the_csv(table, results, make, tmp_path):
    rows, texts = table("table1", [results.add(make.metrics())])
    rows[-1]["IS, paper"] = "77.77"
    rows = [row | {"Scale": "other"} for row in rows]
    write_table(tmp_path / "edited.csv", pd.DataFrame(rows))
    edited = read_table(tmp_path / "edited.csv")
    for key, render in (("md", rendering.to_markdown), ("tex", rendering.to_latex), ("html", rendering.to_html)):
        assert "77.77" in render(edited) and "scale other" in render(edited)
        assert "77.77" not in texts[key] and "scale demo" in texts[key]


def test_every_row_has_every_column(table, results, make):
    _, texts = table("table1", [results.add(make.metrics())])
    table_lines = [line for line in texts["md"].splitlines() if line.startswith("|")]
    assert len(table_lines) == 2 + 16
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table_lines}) == 1
    body = texts["tex"].split(r"\toprule")[1].split(r"\bottomrule")[0]
    widths = set()
    for line in body.splitlines():
        if line.endswith(r" \\"):
            spanned = sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line))
            widths.add(len(re.findall(r"(?<!\\)&", line)) + 1 + spanned)
    spec = re.search(r"\\begin\{tabular\}\{@\{\}(.+)@\{\}\}\n", texts["tex"]).group(1)
    assert widths == {len(re.sub(r"[>p]\{.*?\}", "", spec)) + spec.count("p{")}


def test_latex_is_escaped(table, results, make):
    reason = r"50% of a_b & {c} #1 $x$ ~ ^ \ <y> are ± ≤ bad"
    rows, texts = table("table2", [results.add(make.unstable("eps-simple") | {"reason": reason})])
    tex = texts["tex"]
    assert (
        r"50\% of a\_b \& \{c\} \#1 \$x\$ \textasciitilde{} \textasciicircum{} \textbackslash{} "
        r"\textless{}y\textgreater{} are $\pm$ $\le$ bad"
    ) in tex
    assert r"\toprule" in tex and r"\midrule" in tex and r"\bottomrule" in tex
    assert tex.count("{") - tex.count(r"\{") == tex.count("}") - tex.count(r"\}")
    assert (tex.count("$") - tex.count(r"\$")) % 2 == 0
    assert r"$\tilde{\mu}$" in tex and r"$L_\mathrm{simple}$" in tex
    assert tex.isascii()
    assert reason.split(" are")[0] in rows[-1]["Verdict note"]  # the CSV itself holds plain text


class Checker(HTMLParser):
    """Every tag closed in its turn; cells counted with their spans."""

    def __init__(self):
        super().__init__()
        self.open, self.rows, self.ids, self.links = [], [], set(), set()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.open.append(tag)
        self.ids.add(attributes.get("id"))
        if "href" in attributes:
            self.links.add(attributes["href"].removeprefix("#"))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append((int(attributes.get("colspan", 1)), int(attributes.get("rowspan", 1))))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_a_bare_accessible_table(table, results, make):
    _, texts = table("table1", [results.add(make.metrics())])
    html = texts["html"]
    assert html.startswith('<table class="results">') and html.isascii()
    assert "<caption>Table 1." in html and "scale demo" in html and "Handwritten digits" in html
    checker = Checker()
    checker.feed(html)
    assert not checker.open
    assert checker.links and checker.links <= checker.ids
    # Laying the spans out, all rows must be equally wide.
    carried, widths = {}, set()
    for i, row in enumerate(checker.rows):
        widths.add(sum(width for width, _ in row) + carried.get(i, 0))
        for width, height in row:
            for j in range(i + 1, i + height):
                carried[j] = carried.get(j, 0) + width
    assert len(widths) == 1


def test_html_escapes_what_a_run_wrote(table, results, make):
    _, texts = table("table2", [results.add(make.unstable("eps-simple") | {"reason": "<script>x & y</script>"})])
    assert "<script>" not in texts["html"]
    assert "&lt;script&gt;x &amp; y&lt;/script&gt;" in texts["html"]


def test_bound_and_spread_stand_in_one_cell(table, results, make):
    _, texts = table("table1", [results.add(make.metrics())])
    assert "9.46 ± 0.11" in texts["md"] and "≤ 3.75" in texts["md"]
    assert r"9.46 $\pm$ 0.11" in texts["tex"] and r"$\le$ 3.75" in texts["tex"]

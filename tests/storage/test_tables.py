"""CSV as frames: what is read back, and what is refused as damaged."""

import pandas as pd
import pytest

from ddpm.config.errors import DamagedFile, UserError
from ddpm.storage.tables import read_curve, read_table, write_table

HOSTILE = ['a "b", c', "", "NA", "nan", "−3 ± 0.10", "<b>|x|</b>", "007", "two\nlines"]


def test_what_is_written_is_read_back_as_it_was(tmp_path):
    write_table(tmp_path / "x.csv", pd.DataFrame({"word": HOSTILE, "other": HOSTILE[::-1]}))
    assert read_table(tmp_path / "x.csv", "other", "word").to_dict("list") == {"word": HOSTILE, "other": HOSTILE[::-1]}


def test_a_curve_is_of_floats_in_full_precision(tmp_path):
    values = [0.1 + 0.2, 1e-300, 12345678901234567.0]
    (tmp_path / "x.csv").write_text("t,x,word\n" + "".join(f"{i},{value!r},a\n" for i, value in enumerate(values)))
    curve = read_curve(tmp_path / "x.csv", "x", "t")
    assert list(curve) == ["x", "t"] and curve["x"].tolist() == values and curve["t"].tolist() == [0, 1, 2]
    (tmp_path / "x.csv").write_text("t,x\n")
    assert read_curve(tmp_path / "x.csv", "x").empty


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a whole table"),
        (b"a,b\n1\n", "another number of cells than its 2 columns"),
        (b"a,b\n1,2,3\n", "another number of cells than its 2 columns"),
        (b"a,b\n1,2\n1,2,3\n", "not a whole table"),
        (b"a,b\n1,2\n\n", "another number of cells than its 2 columns"),
        (b'a,b\n1,"2\n', "not a whole table"),
        (b"a,c\n1,2\n", r"has the columns \['a', 'c'\] where \['b'\] was expected"),
        (b"a,b\n1,\xff\n", "not a whole table"),
        (b"a,b\n1,\n", "a cell that is not a number"),
        (b"a,b\n1,x\n", "a cell that is not a number"),
    ],
)
def test_what_is_damaged_is_named(content, words, tmp_path):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(DamagedFile, match=rf"x\.csv: .*{words}"):
        read_curve(tmp_path / "x.csv", "b")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"x\.csv: no such file\. Run the step"):
        read_table(tmp_path / "x.csv")

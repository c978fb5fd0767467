"""What is passed on (weights, reports, cards) holds no secrets and no paths of a machine, and runs nothing."""

import re

import pytest
from servers import serving
from typer.testing import CliRunner
from workspace import PROJECT, Workspace

from ddpm.cli import app
from ddpm.config import base
from ddpm.config.base import ConfigError
from ddpm.config.registry import DATASETS, PUBLISHED
from ddpm.config.resolving import load, resolve_sources
from ddpm.config.sources import RemoteFile
from ddpm.evaluation.networks.inception import INCEPTION
from ddpm.evaluation.published import fetch_statistics
from ddpm.report.page import render_caption
from ddpm.report.rendering import escape_html
from ddpm.storage import download
from ddpm.storage.download import NotDownloaded, fetch
from ddpm.storage.transfer import redact

SECRET = "hunter2"
ADDRESSES = [
    f"https://user:{SECRET}@example.org/x",
    f"https://{SECRET}@example.org/x",
    *(
        f"https://example.org/x?a=1&{key}={SECRET}"
        for key in ("token", "access_token", "X-Amz-Signature", "sig", "api_key", "password", "AUTH")
    ),
]


# Would fail if an address with a secret could get into any document, or if the refusal repeated the secret.
@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_with_secrets_are_refused_everywhere(address):
    files = [{"name": "x", "urls": [address]}]
    documents = [
        {"sources": {"cifar10": {"files": files}}},
        {"sources": {"celebahq256": {"files": [{"urls": [address]}]}}},
        {"sources": {"inception": {"urls": [address]}}},
        {"sources": {"cifar10": {"statistics": {"train": {"name": "x", "urls": [address]}}}}},
        {"override": {"experiments": {"digits-eps-simple": {
            "weights": "released", "checkpoint": {"files": files, "averaged": True}}}}},
    ]  # fmt: skip
    for document in documents:
        with pytest.raises(ConfigError, match=r"~/\.netrc, or one that the environment variable NETRC names") as caught:
            load({"scale": "demo", **document})
        assert SECRET not in str(caught.value)
    done = CliRunner().invoke(app, ["download-network", "--url", address, "--out", "x"])
    assert isinstance(done.exception, ConfigError)
    assert SECRET not in str(done.exception)


# Would fail if what the sources need were refused along with it.
def test_published_addresses_are_no_secrets():
    files = [file for data in DATASETS.values() for file in (*data.files, *data.statistics.values())]
    files += [file for checkpoint in PUBLISHED.values() for file in checkpoint.files] + [INCEPTION]
    assert all(base.without_secrets(address) == address for file in files for address in file.urls)


# Would fail if words of the network's libraries were said as they are.
def test_what_a_redirect_lets_in_with_is_not_said(monkeypatch, tmp_path):
    said = f"Max retries exceeded with url: /x?X-Amz-Signature={SECRET} (by ProxyError('http://me:{SECRET}@proxy:1'))"
    assert SECRET not in redact(said)
    assert "Max retries exceeded with url: /x?..." in redact(said)
    monkeypatch.setattr(download, "ROUNDS", 1)
    with serving() as server:
        server.add("x", b"", "redirects-to-html")
        logged = []
        with pytest.raises(NotDownloaded):
            fetch(RemoteFile(name="x", urls=(f"{server.url}/x",)), tmp_path, logged.append)


# Would fail if the report said where on this machine something lies.
def test_the_report_names_no_folders(tmp_path):
    (tmp_path / "stats.npz").write_bytes(b"<html>")
    file = DATASETS["cifar10"].statistics["train"].model_copy(update={"name": "stats.npz"})
    found = fetch_statistics(file, tmp_path, tmp_path / "elsewhere", lambda line: None)
    assert found["reason"] == "stats.npz: is an HTML page (a login, or a quota that is used up?), not the file"


# Would fail if any module recorded the host's name, or a user's.
def test_host_and_user_are_nowhere_recorded():
    # Parts and locks, which are temporary; words of an error; and a folder that a user names by `~`.
    naming = {"files.py", "locks.py", "distributed.py", "base.py"}
    for path in (PROJECT / "workflow/ddpm").rglob("*.py"):
        words = re.findall(r"gethostname|getuser|getlogin|platform\.node|uname\(|expanduser", path.read_text())
        assert not words or path.name in naming, path


def test_results_hold_no_path_of_the_machine(tmp_path):
    folder = tmp_path / "a-place-with-a-name"
    folder.mkdir()
    workspace = Workspace(folder)
    workspace.snakemake(
        "results/demo/digits-eps-vlb-fixed/metrics.json", "results/demo/digits-eps-vlb-fixed/model.safetensors"
    )
    files = [path for path in workspace.results.rglob("*") if path.is_file()]
    files = [path for path in files if {"logs", "benchmarks"}.isdisjoint(path.parts)]
    assert len(files) > 10
    for path in files:
        assert b"a-place-with-a-name" not in path.read_bytes(), path


HOSTILE = "`click <javascript:alert(1)>`_ and javascript:alert(2) <script>alert(3)</script> |x| {{ 7*7 }} *a* _b: x"


# Would fail if a data set's title were read as markup, or a browser were let run what got through.
def test_a_title_makes_no_link(tmp_path):
    (tmp_path / "c.rst").write_text("On {{ snakemake.params.data }} at {{ snakemake.params.scale }}.")
    html = render_caption(tmp_path / "c.rst", "demo", HOSTILE)
    assert "href" not in html
    assert "<script" not in html
    assert "{{ 7*7 }}" in html
    assert "<script" not in escape_html(HOSTILE)
    page = (PROJECT / "workflow/ddpm/report/page.html").read_text()
    assert "Content-Security-Policy" in page
    assert "default-src 'none'" in page
    assert "script-src 'sha256-{{ script_hash }}'" in page  # the page's own script alone
    assert page.count("script-src") == 1


def test_a_root_is_in_no_document_that_is_passed_on(tmp_path):
    data_sets, inception = resolve_sources({"cifar10": {"root": str(tmp_path)}, "inception": {"root": str(tmp_path)}})
    assert str(tmp_path) not in inception.model_dump_json(exclude={"root"})
    config = load({"scale": "demo", "sources": {"cifar10": {"root": str(tmp_path)}}})
    for experiment in config.scale_config.experiments.values():
        for stage in ("training", "sampling", "evaluation"):
            assert str(tmp_path) not in str(experiment.stage_config(stage))
    assert data_sets["cifar10"].root == tmp_path

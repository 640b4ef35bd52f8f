"""The site builder: which models it finds, what it writes, and how it refuses."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from convert.__main__ import main
from convert.server import own_addresses, serving
from convert.site import build_app, build_site, find_models
from mobilevit_keras import commands
from mobilevit_keras.description import DESCRIPTION_FILE, compact, write_archive
from mobilevit_keras.files import MARK_FILE

REPORT = {
    "variant": "mobilevit_xxs",
    "num_classes": 2,
    "size": [64, 64],
    "precision": "float32",
    "preprocessing": {"short_side": 72, "crop_size": 64, "interpolation": "bilinear"},
    "structure": {"operations": {"ADD": 3}},
}


def write_tflite(folder: Path, name: str, **report) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.tflite").write_bytes(b"\0\0\0\0TFL3" + name.encode())
    (folder / f"{name}.report.json").write_text(json.dumps(REPORT | report))
    (folder / "labels.txt").write_text("cat\ndog\n")


def write_tfjs(folder: Path, **report) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text("{}")
    (folder / "group1-shard1of1.bin").write_bytes(b"\1\2")
    (folder / "labels.txt").write_text("cat\ndog\n")
    (folder / "report.json").write_text(json.dumps(REPORT | report))


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "run"
    write_tflite(folder, "model")
    write_tflite(folder, "model_int8", precision="int8")
    write_tfjs(folder / "tfjs")
    write_tfjs(folder / "tfjs_uint8", precision="uint8")
    (folder / "samples").mkdir()
    (folder / "samples" / "a.png").write_bytes(b"png")
    (folder / "samples" / "notes.txt").write_text("no image")
    return folder


def test_formats_of_one_model_belong_together(run_dir):
    found = {model.key: model for model in find_models(run_dir)}
    assert set(found) == {"", "int8", "uint8"}
    assert found[""].tflite and found[""].tfjs
    assert found["int8"].tflite and not found["int8"].tfjs
    assert found["uint8"].tfjs and not found["uint8"].tflite
    assert found["int8"].name == "mobilevit_xxs · int8"


def test_a_single_file_or_folder_is_a_model(run_dir):
    (only,) = find_models(run_dir / "model_int8.tflite")
    assert only.tflite == run_dir / "model_int8.tflite"
    (only,) = find_models(run_dir / "tfjs")
    assert only.tfjs == run_dir / "tfjs"


def test_site_of_several_runs(run_dir, tmp_path):
    other = tmp_path / "other"
    write_tflite(other, "model", parameters=7)
    site = build_site([run_dir, other], tmp_path / "site")
    index = json.loads((site / "models.json").read_text())
    names = [model["name"] for model in index["models"]]
    assert names == [
        "mobilevit_xxs · float32 · run",
        "mobilevit_xxs · int8",
        "mobilevit_xxs · uint8",
        "mobilevit_xxs · float32 · other",
    ]
    assert len({model["id"] for model in index["models"]}) == 4
    for model in index["models"]:
        for url in model["files"].values():
            path = site / url
            report = "report.json" if path.suffix == ".json" else f"{path.stem}.report.json"
            assert path.is_file() and path.with_name(report).is_file()
            assert (path.parent / "labels.txt").read_text() == "cat\ndog\n"
    assert "structure" not in index["models"][0]["reports"]["tflite"], "only what is shown"
    assert index["samples"] == ["samples/00.png"]
    assert (site / "index.html").is_file() and (site / "service_worker.js").is_file()
    # A second time replaces the first whole.
    again = build_site([other], tmp_path / "site")
    assert len(list((again / "models").iterdir())) == 1
    assert not (again / "samples").exists()


def test_refusals(run_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="must exist. Received: .*nowhere"):
        build_site([tmp_path / "nowhere"], tmp_path / "site")
    with pytest.raises(
        FileNotFoundError, match=r"must hold exported models .* Received: .*samples"
    ):
        build_site([run_dir / "samples"], tmp_path / "site")
    (run_dir / "model.report.json").write_text("{}")
    with pytest.raises(ValueError, match="must have num_classes.* Received: .*model.report.json"):
        build_site([run_dir], tmp_path / "site")
    (run_dir / "model.report.json").write_text("{")
    with pytest.raises(ValueError, match="JSON file is needed. Received: .*model.report.json"):
        build_site([run_dir], tmp_path / "site")
    (run_dir / "model.report.json").unlink()
    with pytest.raises(ValueError, match="must say what it is. Received: .*model.tflite"):
        build_site([run_dir], tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_never_replaces_a_folder_that_is_no_site(run_dir, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    with pytest.raises(ValueError, match="Received: .*thesis, which also holds chapter.txt"):
        build_site([run_dir], tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "mine"


def test_labels_of_another_model_name_nothing(run_dir, tmp_path):
    """Two exports of 0.1.0 share one labels.txt; one that does not fit is not believed."""
    (run_dir / "labels.txt").write_text("only one\n")
    site = build_site([run_dir], tmp_path / "out" / "site")
    for labels in site.glob("models/*/labels.txt"):
        assert labels.read_text() == "0\n1\n"


def described(**changes) -> dict:
    return {
        **REPORT,
        "schema": 1,
        "task": "classification",
        "input": {"name": "image", "dtype": "float32", "range": [0, 255]},
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": [1, 2]}],
        "class_names": ["cat", "dog"],
        "precision": "int8",
        **changes,
    }


def test_what_the_page_cannot_show_is_left_out(tmp_path, capsys):
    folder = tmp_path / "run"
    write_tflite(folder, "streets")
    description = described() | {"task": "depth"}
    write_archive(folder / "streets.tflite", {DESCRIPTION_FILE: compact(description)})
    with pytest.raises(
        ValueError, match=r"classification, detection, segmentation only.* Received: .*\(depth"
    ):
        build_site([folder], tmp_path / "site")
    assert not (tmp_path / "site").exists()
    write_tflite(folder, "model")
    site = build_site([folder], tmp_path / "site")
    (model,) = json.loads((site / "models.json").read_text())["models"]
    assert model["name"] == "mobilevit_xxs · float32"
    assert "left out, because the page cannot show it: " in capsys.readouterr().err


def test_a_file_is_what_it_says_itself(tmp_path):
    """Neither a report nor labels that lie beside it count, nor are they copied."""
    folder = tmp_path / "run"
    write_tflite(folder, "model", variant="mobilevit_s")
    write_archive(folder / "model.tflite", {DESCRIPTION_FILE: compact(described())})
    write_tfjs(folder / "tfjs", variant="mobilevit_s")
    json_file = {"userDefinedMetadata": {"mobilevit_keras": described()}}
    (folder / "tfjs" / "model.json").write_text(json.dumps(json_file))
    site = build_site([folder], tmp_path / "site")
    (model,) = json.loads((site / "models.json").read_text())["models"]
    assert model["name"] == "mobilevit_xxs · int8"
    for file_format, url in model["files"].items():
        assert model["reports"][file_format]["num_classes"] == 2
        beside = {path.name for path in (site / url).parent.iterdir() if path.is_file()}
        assert not beside & {"labels.txt", "report.json", "model.report.json"}


def test_without_npm(run_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("convert.site.WEB_SOURCES", tmp_path)
    (tmp_path / "index.html").write_text("")
    monkeypatch.setattr("convert.site._BUILD_INPUTS", ("index.html",))
    with pytest.raises(FileNotFoundError, match="Node.js 20 or newer. Received: no `no-such-npm`"):
        build_site([run_dir], tmp_path / "site", npm="no-such-npm")
    with pytest.raises(OSError, match=r"`false ci .*` in .* must succeed"):
        build_site([run_dir], tmp_path / "site", npm="false")


def test_commands(run_dir, tmp_path, capsys):
    site = tmp_path / "site"
    other = run_dir / "model_int8.tflite"
    assert commands.run(main, ["web", str(run_dir), str(site), "--model", str(other)]) == 0
    assert f"Wrote {site}" in capsys.readouterr().out
    models = json.loads((site / "models.json").read_text())["models"]
    assert len(models) == 3, "the same file twice is one model"
    assert commands.run(main, ["demo", str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "nowhere" in error and error.count("\n") == 1
    assert commands.run(main, ["demo", str(run_dir), "--port", "80000"]) == 2
    assert capsys.readouterr().err == "error: A port must be 0 to 65535. Received: 80000.\n"


def test_the_page_does_not_wait_for_tensorflow(run_dir, tmp_path):
    # As a person runs it: the package imports less below its own commands.
    command = [sys.executable, "-X", "importtime", "-m", "convert", "web"]
    done = subprocess.run(
        [*command, str(run_dir), str(tmp_path / "site")], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert " convert.site" in done.stderr and "tensorflow" not in done.stderr


@contextmanager
def demo(run_dir: Path, scratch: Path, *arguments: str) -> Iterator[subprocess.Popen]:
    """Runs a demo whose temporary folders lie in `scratch`."""
    scratch.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "convert", "demo", str(run_dir), "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
        # A shell's background jobs, and all that they start, ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_serves_on_this_computer_and_cleans_up(run_dir, tmp_path, number):
    scratch = tmp_path / "scratch"
    with demo(run_dir, scratch) as process:
        line = process.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+/", line).group()
        with urllib.request.urlopen(url, timeout=10) as response:
            assert response.status == 200
            assert response.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert list(scratch.iterdir())
        process.send_signal(number)
        assert process.wait(20) == 0
        assert not list(scratch.iterdir())


def test_a_killed_demo_is_cleaned_up_by_the_next(run_dir, tmp_path):
    scratch = tmp_path / "scratch"
    with demo(run_dir, scratch) as killed:
        killed.stdout.readline()
    (abandoned,) = scratch.iterdir()
    with demo(run_dir, scratch) as first, demo(run_dir, scratch, "--host", "0.0.0.0") as second:
        assert first.stdout.readline() and second.stdout.readline()
        assert not own_addresses() or own_addresses()[0] in second.stdout.readline()
        assert len(list(scratch.iterdir())) == 2, "those that run are left alone"
        assert not abandoned.exists()


def test_a_second_time_keeps_what_a_person_added(run_dir, tmp_path):
    """The way of GitHub Pages: the site's folder is a repository with a domain name of its own."""
    site = build_site([run_dir], tmp_path / "site")
    first = {path.relative_to(site) for path in site.rglob("*")}
    (site / ".git").mkdir()
    (site / ".git" / "HEAD").write_text("ref: refs/heads/pages")
    (site / "CNAME").write_text("example.org")
    (site / "samples" / "mine.png").write_bytes(b"mine")
    (run_dir / "model_int8.tflite").unlink()
    build_site([run_dir], site)
    assert (site / ".git" / "HEAD").read_text() == "ref: refs/heads/pages"
    assert (site / "CNAME").read_text() == "example.org"
    assert (site / "samples" / "mine.png").read_bytes() == b"mine"
    second = {path.relative_to(site) for path in site.rglob("*")}
    gone = {path.parts[1].rsplit("-", 1)[0] for path in first - second}
    assert gone == {"mobilevit_xxs-int8"}, "what the new site lacks goes, and nothing else"


def as_version_010(site: Path) -> Path:
    """The same site as 0.1.0 wrote it: without a mark."""
    (site / MARK_FILE).unlink()
    return site


def test_a_site_of_an_earlier_version_is_updated(run_dir, tmp_path):
    site = as_version_010(build_site([run_dir], tmp_path / "site"))
    (site / "CNAME").write_text("example.org")
    (run_dir / "model_int8.tflite").unlink()
    build_site([run_dir], site)
    assert (site / "CNAME").read_text() == "example.org"
    assert len(list((site / "models").iterdir())) == 2
    assert json.loads((site / MARK_FILE).read_text())["wrote"]


@pytest.mark.parametrize("index", ["{}", '{"models": [], "samples": []}', "[]", "no JSON"])
def test_models_json_alone_makes_no_site(run_dir, tmp_path, index):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "models.json").write_text(index)
    (folder / "index.html").write_text("mine")
    with pytest.raises(ValueError, match="Received: .*thesis, which also holds .*models.json"):
        build_site([run_dir], folder)
    assert (folder / "index.html").read_text() == "mine"


def test_an_update_that_is_killed_leaves_a_usable_site(run_dir, tmp_path, monkeypatch):
    """After each file that takes its place, the page and all that models.json names are there."""
    site = build_site([run_dir], tmp_path / "site")
    (site / "CNAME").write_text("example.org")
    (run_dir / "model_int8.tflite").write_bytes(b"\0\0\0\0TFL3 another")
    moves = 0
    replace = os.replace

    def checked(source, target):
        nonlocal moves
        replace(source, target)
        if Path(target).is_relative_to(site):
            moves += 1
            assert_usable(site)

    monkeypatch.setattr(os, "replace", checked)
    build_site([run_dir], site)
    assert moves > 20
    assert_usable(site)


def assert_usable(site: Path) -> None:
    """Every local address in the pages and in models.json must stand for a file."""
    index = json.loads((site / "models.json").read_text())
    urls = [url for model in index["models"] for url in model["files"].values()]
    for name in (*urls, *index["samples"]):
        assert (site / name).is_file(), name
    for page in (site / "index.html", site / "benchmark" / "index.html"):
        for name in re.findall(r'(?:src|href)="([^"#]*\.\w+)"', page.read_text()):
            assert (page.parent / name).is_file(), (page, name)


def test_what_an_export_has_not_finished_is_no_model(run_dir, tmp_path):
    (run_dir / ".partial-host-1-abcd-model.tflite").write_bytes(b"\0\0\0\0TFL3")
    (run_dir / "samples" / ".partial-host-1-abcd-a.png").write_bytes(b"")
    assert len(find_models(run_dir)) == 3
    site = build_site([run_dir], tmp_path / "site")
    assert len(list((site / "samples").iterdir())) == 1


@pytest.mark.parametrize("name", ["a#b", "50% of 100", "what?", "a\\b", "ü\nx"])
def test_any_file_name_gets_an_address(run_dir, tmp_path, name):
    write_tflite(tmp_path / "odd", name)
    site = build_site([tmp_path / "odd"], tmp_path / "site")
    (model,) = json.loads((site / "models.json").read_text())["models"]
    assert model["name"] == f"mobilevit_xxs · float32 · {name}"
    with serving(site) as url:
        address = model["files"]["tflite"]
        assert re.fullmatch(r"[\w./-]+", address, re.ASCII)
        for path in (address, address.replace(".tflite", ".report.json")):
            with urllib.request.urlopen(url + path, timeout=10) as response:
                assert response.status == 200


def locks(folder: Path, monkeypatch, installed: dict | None) -> None:
    """A lock file with two packages, and npm's list of what it has installed."""
    wanted = {
        "": {"name": "app"},
        "node_modules/a": {"version": "1.0.0", "integrity": "sha512-a"},
        "node_modules/for-another-system": {"version": "1.0.0", "optional": True},
    }
    (folder / "node_modules").mkdir()
    (folder / "index.html").write_text("")
    (folder / "package-lock.json").write_text(json.dumps({"packages": wanted}))
    if installed is not None:
        text = json.dumps({"packages": installed})
        (folder / "node_modules" / ".package-lock.json").write_text(text)
    monkeypatch.setattr("convert.site.WEB_SOURCES", folder)
    monkeypatch.setattr("convert.site._BUILD_INPUTS", ("index.html",))


@pytest.mark.parametrize(
    ("installed", "first"),
    [
        ({"node_modules/a": {"version": "1.0.0", "integrity": "sha512-a"}}, "run build"),
        ({"node_modules/a": {"version": "0.9.0", "integrity": "sha512-b"}}, "ci .*"),
        ({}, "ci .*"),
        (None, "ci .*"),
    ],
)
def test_a_changed_lock_file_is_installed_first(tmp_path, monkeypatch, installed, first):
    locks(tmp_path, monkeypatch, installed)
    with pytest.raises(OSError, match=f"`false {first}` in .* must succeed"):
        build_app("false")

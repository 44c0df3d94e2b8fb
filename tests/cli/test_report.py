"""``prune report``: what the page says, how it looks in a browser, and that nothing in the data can act in it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import browser, chromium
from making import png, write

Prune = Any
SAMPLE = Path(__file__).parents[2] / "sample_data"
REAL = Path(__file__).parents[3] / "shared" / "data" / "cifar10_train.parquet"
EVIL = (
    "<script>document.title='owned'</script>", '"><img src=x onerror="document.title=1">', "]]></style></svg>", "$x^{2}$ & co",
    "a" * 300, "\u202e\u05d4\u05d9\u05e4\u05d5\u05da", "😀 smile", "'--><b>", "{{ 7 * 7 }}", "line\nbreak",
)  # fmt: skip


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `everything` keeps its files."""
    return tmp_path_factory.mktemp("everything") / "files"


@pytest.fixture
def everything(prune: Prune, pictures: Path, tmp_path: Path, made_once: Path) -> list[str]:
    """One file of every kind, of 40 pictures."""
    names = ["s.parquet", "k.parquet", "k.curve.parquet", "run", "e.parquet", "c.parquet", "bad.errors.parquet", "f.parquet"]
    if made_once.exists():
        shutil.copytree(made_once, tmp_path, dirs_exist_ok=True)
        return names
    test = pq.read_table(pictures)
    pq.write_table(test, tmp_path / "test.parquet")
    fast = ("--arch", "resnet9:4", "--batch-size", "8")
    prune("score", pictures, "--method", "forgetting,aum", "--epochs", "2", *fast, "--save-features", "f.parquet",
          "-o", "s.parquet")  # fmt: skip
    prune("select", "s.parquet", "--features", "f.parquet", "-p", "key=forgetting", "--fraction", "0.5", "-o", "k.parquet")
    prune("train", pictures, "--epochs", "3", *fast, "--structure", "complexity_aware", "-p", "strength=1", "-o", "run")
    prune("evaluate", "run", "test.parquet", "-o", "e.parquet")
    prune("compare", "k.parquet", "--data", pictures, "--test", "test.parquet", "--epochs", "2", *fast, "--seeds", "2",
          "--jobs", "1", "--gate", "accuracy >= random - 100", "-o", "c.parquet")  # fmt: skip
    write(tmp_path / "bad.errors.parquet", {"id": ["p99"], "path": [None], "reason": ["truncated"]})
    shutil.copytree(tmp_path, made_once)
    return names


def text_of(page: str) -> str:
    """Return the page without its tags."""
    import html

    return html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script)>.*?</\1>", " ", page, flags=re.DOTALL)))


def table(page: str, caption: str) -> list[list[str]]:
    """Return the body of the table with that caption."""
    found = re.search(rf"<caption>{re.escape(caption)}</caption>(.*?)</table>", page, re.DOTALL)
    assert found is not None, caption
    body = found[1][found[1].index("<tbody>") :]
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)]


def test_every_part_is_there_and_the_numbers_are_those_of_the_files(
    prune: Prune, everything: list[str], pictures: Path, tmp_path: Path
) -> None:
    done = prune("report", *everything, "--data", pictures, "-o", "r.html", "--plots", "plots", "--json")
    summary = json.loads(done.stdout)
    assert summary["sections"] == [
        "comparison", "selections", "curve", "scores", "runs", "evaluation", "samples", "bad-rows", "history",
    ]  # fmt: skip
    page = (tmp_path / "r.html").read_text()
    selected = pq.read_table(tmp_path / "k.parquet", columns=["selected"]).column(0).to_pylist()
    assert table(page, "selections") == [["k.parquet", f"{sum(selected)}", "40", "50.00%"]]
    by_class = pq.read_table(tmp_path / "k.parquet").to_pylist()
    kept = [sum(r["selected"] for r in by_class if r["label"] == c) for c in (0, 1)]
    assert table(page, "k.parquet: kept of each class") == [[str(c), str(kept[c]), "20", f"{kept[c] / 20:.1%}"] for c in (0, 1)]
    scores = pq.read_table(tmp_path / "s.parquet")
    for row, name in zip(table(page, "scores in numbers"), ("forgetting", "aum"), strict=True):
        assert row[0] == name and row[2:4] == ["40", "0"]
        assert row[6] == f"{np.median(scores[name].to_numpy()):.4g}"
    accuracy = next(
        r["value"] for r in pq.read_table(tmp_path / "e.parquet").to_pylist() if r["metric"] == "accuracy" and r["class"] is None
    )
    assert ["accuracy", f"{accuracy:.4f}", "share"] in table(page, "e.parquet: figures")
    units = json.loads((tmp_path / "run" / "model.json").read_text())["structure"]["units"]
    widths = next(c for c in re.findall(r"<caption>(.*?)</caption>", page) if c.startswith("run: widths of layers"))
    assert table(page, widths) == [[layer, f"{whole:,}", f"{left:,}"] for layer, (left, whole) in units.items()]
    assert "1 gate(s) passed, 0 failed, 0 undecided" in page
    assert table(page, "bad.errors.parquet") == [["p99", "", "truncated"]]
    drawn = {path.name for path in (tmp_path / "plots").iterdir()}
    assert {"score-forgetting.png", "score-forgetting.svg", "curve-0.svg", "widths-0.png", "confusion-0.png"} <= drawn
    assert len(drawn) == 2 * summary["plots"]


def test_hardest_and_easiest_are_in_order_with_their_scores(prune: Prune, pictures: Path, tmp_path: Path) -> None:
    ids = pq.read_table(pictures)["id"].to_pylist()
    write(tmp_path / "s.parquet", {"id": ids[::-1], "el2n": [float(i) for i in range(40)][::-1]})
    prune("report", "s.parquet", "--data", pictures, "--samples", "3", "-o", "r.html")
    page = (tmp_path / "r.html").read_text()
    grids = dict(re.findall(r'<h3>(.*?)</h3>\s*<ul class="grid">(.*?)</ul>', page, re.DOTALL))
    assert set(grids) == {f"{c}: {kind} by el2n" for c in (0, 1) for kind in ("hardest", "easiest")}
    shown = re.findall(r'<b title="(.*?)">.*?<span>(\S+)</span>', grids["1: hardest by el2n"])
    assert shown == [("p39", "39"), ("p37", "37"), ("p35", "35")]
    shown = re.findall(r'<b title="(.*?)">.*?<span>(\S+)</span>', grids["0: easiest by el2n"])
    assert shown == [("p00", "0"), ("p02", "2"), ("p04", "4")]
    assert grids["0: easiest by el2n"].count("data:image/webp;base64,") == 3


def test_the_same_files_give_the_same_page(prune: Prune, everything: list[str], pictures: Path, tmp_path: Path) -> None:
    prune("report", *everything, "--data", pictures, "-o", "one.html", "--plots", "a")
    prune("report", *everything, "--data", pictures, "-o", "two.html", "--plots", "b")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_embeddings_are_projected(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    prune("score", vectors, "--method", "moderate", "-o", "s.parquet")
    done = prune("report", "s.parquet", vectors, "-o", "r.html", "--json")
    assert "projection" in json.loads(done.stdout)["sections"]
    assert "Points of the two first principal components: 20 0, 20 1, 20 2." in (tmp_path / "r.html").read_text()


def test_principal_components_by_hand() -> None:
    from prune_cli.stages.report.sections.projection import principal_components

    points, share = principal_components(np.array([[-3.0, 0, 1], [3, 0, 1], [0, -1, 1], [0, 1, 1]]))
    assert np.abs(points) == pytest.approx(np.array([[3, 0], [3, 0], [0, 1], [0, 1]]), abs=1e-12)
    assert points[np.abs(points).argmax(axis=0), [0, 1]].min() > 0
    assert share == pytest.approx(1.0)


def test_pictures_that_cannot_be_read_say_why(prune: Prune, tmp_path: Path) -> None:
    good = png(np.zeros((8, 8), np.uint8))
    write(tmp_path / "d.parquet", {"id": ["a", "b"], "image": [good, good[:40]], "label": [0, 1]})
    write(tmp_path / "s.parquet", {"id": ["a", "b"], "el2n": [0.0, 1.0]})
    prune("report", "s.parquet", "--data", "d.parquet", "-o", "r.html")
    assert 'class="unreadable" title="' in (tmp_path / "r.html").read_text()


@pytest.fixture
def hostile(tmp_path: Path) -> list[str]:
    """Scores, a selection, a ledger and reports whose every text tries something."""
    n = len(EVIL)
    write(tmp_path / "<i>s.parquet", {"id": list(EVIL), "label": list(EVIL), "el2n": [float(i) for i in range(n)],
                                      EVIL[0]: [1.0] * n})  # fmt: skip
    stated = {"prune": json.dumps({
        "command": EVIL[0], "method": EVIL[1], "parameters": {EVIL[0]: EVIL[1]}, "inputs": [{"name": EVIL[1], "sha256": "x"}],
        "seed": 0, "rows_in": 1, "rows_out": 1, "versions": {EVIL[0]: "1"},
    })}  # fmt: skip
    write(tmp_path / "k.parquet", {"id": list(EVIL), "label": list(EVIL), "selected": [i % 2 == 0 for i in range(n)]}, stated)
    write(tmp_path / "b.errors.parquet", {"id": list(EVIL), "path": list(EVIL), "reason": list(EVIL)})
    evaluation = {
        "metric": ["accuracy", *["accuracy"] * n, *["confusion"] * n], "value": [0.5] * (2 * n + 1), "unit": ["share"] * (2 * n + 1),
        "class": [None, *EVIL, *EVIL], "predicted": [None] * (n + 1) + [*EVIL[1:], EVIL[0]],
    }  # fmt: skip
    write(tmp_path / "e.parquet", evaluation)
    return [str(tmp_path / name) for name in ("<i>s.parquet", "k.parquet", "b.errors.parquet", "e.parquet")]


def test_texts_of_the_data_stay_texts(prune: Prune, hostile: list[str], tmp_path: Path) -> None:
    prune("report", *hostile, "--title", EVIL[1], "-o", "r.html")
    page = (tmp_path / "r.html").read_text()
    assert page.count("<script") == 1 and "<img src=x" not in page and "<i>s" not in page and "<b>" not in page.replace("<b title", "")
    assert "{{ 7 * 7 }}" in text_of(page) and "owned" in text_of(page)
    assert "default-src 'none'" in page and "http-equiv" in page
    for found in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert found.startswith(("data:image/webp", "#")), found


def test_new_labels_are_counted(prune: Prune, tmp_path: Path) -> None:
    write(
        tmp_path / "relabels.parquet",
        {
            "id": ["a", "b", "c", "d", "e"], "label": ["cat", "cat", "dog", "dog", "dog"],
            "new_label": ["dog", "cat", "dog", "cat", "cat"], "p_clean": [0.1, 0.9, 0.8, 0.2, 0.3],
            "confidence": [0.5] * 5,
        },
    )  # fmt: skip
    prune("report", "relabels.parquet", "-o", "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "relabels.parquet: 3 of 5 labels changed (60.0%)." in page
    assert table(page, "relabels.parquet: most frequent changes") == [["dog", "cat", "2"], ["cat", "dog", "1"]]
    assert "Histogram of p_clean, median 0.3." in page


def test_a_file_that_was_made_again_is_not_taken_for_the_old_one(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    prune("score", vectors, "--method", "moderate", "-o", "s.parquet")
    prune("select", "s.parquet", "--method", "top", "--fraction", "0.5", "-o", "k.parquet")
    prune("report", "s.parquet", "k.parquet", "-o", "r.html")
    assert "k.parquet from s.parquet." in (tmp_path / "r.html").read_text()
    prune("score", vectors, "--method", "moderate", "--seed", "1", "-o", "s.parquet", "--force")
    prune("report", "s.parquet", "k.parquet", "-o", "r.html", "--force")
    page = (tmp_path / "r.html").read_text()
    assert "k.parquet from s.parquet, another version" in page and "k.parquet from s.parquet." not in page


def test_one_file_by_standard_input(prune: Prune, tmp_path: Path) -> None:
    write(tmp_path / "s.parquet", {"id": ["a", "b"], "el2n": [1.0, 2.0]})
    page = prune("report", "-", "-o", "-", stdin=(tmp_path / "s.parquet").read_bytes()).stdout.decode()
    assert table(page, "scores in numbers")[0][:3] == ["el2n", "harder when high", "2"]


def test_labels_whose_truth_is_not_known_are_neither_right_nor_wrong(prune: Prune, pictures: Path, tmp_path: Path) -> None:
    known = pq.read_table(pictures)
    truth = [None if i < 20 else int(i % 4 == 0) ^ (i % 2) for i in range(40)]  # of 20 known, the 5 of every fourth are wrong
    pq.write_table(known.append_column("true_label", pa.array(truth, pa.int64())), tmp_path / "d.parquet")
    write(tmp_path / "s.parquet", {"id": known["id"], "el2n": [float(i) for i in range(40)]})
    prune("report", "s.parquet", "--data", "d.parquet", "-o", "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "<dt>wrong labels</dt><dd>25.0%</dd>" in page
    assert page.count('class="wrong"') == page.count("<em>true: 1</em>") > 0


def test_files_that_are_none_of_ours(prune: Prune, vectors: Path, pictures: Path, tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", {"a": [1]})
    assert b"x.parquet is no file of prune: it has a" in prune("report", "x.parquet", check=2).stderr
    (tmp_path / "t.txt").write_text("no")
    assert b"not a whole Parquet file" in prune("report", "t.txt", check=2).stderr
    assert b"does not exist" in prune("report", "none.parquet", check=2).stderr
    assert b"2 data manifests" in prune("report", vectors, pictures, check=2).stderr
    write(tmp_path / "s.parquet", {"id": ["nobody"], "el2n": [1.0]})
    assert b"has none of the ids" in prune("report", "s.parquet", "--data", vectors, check=2).stderr
    assert not list(tmp_path.glob("*.html"))
    write(tmp_path / "s2.parquet", {"id": ["a"], "el2n": [1.0]})
    prune("report", "s2.parquet")
    assert (tmp_path / "s2.report.html").exists()
    assert b"exists already" in prune("report", "s2.parquet", check=2).stderr
    assert prune("report", "s2.parquet", "-o", "-").stdout.startswith(b"<!DOCTYPE html>")


def test_a_million_rows(prune: Prune, tmp_path: Path) -> None:
    n = 1_000_000
    rng = np.random.default_rng(0)
    ids = pa.array(np.char.add("row-", np.arange(n).astype(str)))
    write(tmp_path / "s.parquet", {"id": ids, "label": rng.integers(0, 10, n), "el2n": rng.random(n)})
    write(tmp_path / "k.parquet", {"id": ids, "label": rng.integers(0, 10, n), "selected": rng.random(n) < 0.3})
    prune("report", "s.parquet", "k.parquet", "-o", "r.html")
    page = (tmp_path / "r.html").read_text()
    assert len(page) < 2 * 2**20
    assert table(page, "selections")[0][2] == "1,000,000"


@pytest.mark.skipif(not REAL.exists(), reason="needs CIFAR-10, which the project does not carry")
def test_ten_thousand_thumbnails_are_light(prune: Prune, tmp_path: Path) -> None:
    ids = pq.read_table(REAL, columns=["id"]).column(0).to_pylist()
    write(tmp_path / "s.parquet", {"id": ids, "aum": np.random.default_rng(0).random(len(ids))})
    done = prune("report", "s.parquet", "--data", REAL, "--samples", "400", "-o", "r.html", "--json")
    page = (tmp_path / "r.html").read_text()
    assert page.count("data:image/webp") > 9_900
    assert json.loads(done.stdout)["bytes"] < 15e6


needs_browser = pytest.mark.skipif(chromium() is None, reason="needs Chromium and its driver (Debian: chromium, chromium-driver)")

_OVERLAPS = """
const found = [];
for (const svg of document.querySelectorAll('svg')) {
  const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]).filter(([, r]) => r.width);
  for (let i = 0; i < boxes.length; i++) for (let j = 0; j < i; j++) {
    const [a, b] = [boxes[i][1], boxes[j][1]];
    const slanted = boxes[i][1].height > 24 || boxes[j][1].height > 24;
    const w = Math.min(a.right, b.right) - Math.max(a.left, b.left), h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (!slanted && w > 2 && h > 4) found.push([boxes[i][0], boxes[j][0]]);
  }
}
return found;
"""


@needs_browser
def test_in_a_browser(prune: Prune, everything: list[str], pictures: Path, tmp_path: Path) -> None:
    prune("report", *everything, "--data", pictures, "-o", "r.html")
    with browser(tmp_path / "profile") as driver:
        driver.set_window_size(1200, 900)
        driver.get((tmp_path / "r.html").as_uri())
        assert driver.title == "Report: s"
        assert driver.execute_script(_OVERLAPS) == []
        root, button = driver.find_element("tag name", "html"), driver.find_element("id", "theme")
        colours = [driver.execute_script("return getComputedStyle(document.body).backgroundColor")]
        button.click()
        assert root.get_attribute("data-theme") == "dark" and button.text == "Light"
        colours.append(driver.execute_script("return getComputedStyle(document.body).backgroundColor"))
        assert colours[0] != colours[1]
        driver.get((tmp_path / "r.html").as_uri())  # a click moves where Tab begins
        reached = _tabbed(driver, 400)
        wanted = driver.execute_script("return document.querySelectorAll('a, button, summary, [tabindex=\"0\"]').length")
        assert len(reached) == wanted
        driver.set_window_size(360, 800)
        assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        assert driver.get_log("browser") == []
        assert _asked_for(driver) == set()


@needs_browser
def test_hostile_texts_do_nothing_in_a_browser(prune: Prune, hostile: list[str], tmp_path: Path) -> None:
    prune("report", *hostile, "-o", "r.html")
    with browser(tmp_path / "profile") as driver:
        driver.set_window_size(360, 800)
        driver.get((tmp_path / "r.html").as_uri())
        driver.execute_async_script("requestIdleCallback(arguments[0])")  # whatever is there to run has run
        assert driver.title == "Report: <i>s"
        assert driver.execute_script("return document.scripts.length") == 1
        assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        assert driver.get_log("browser") == []
        assert _asked_for(driver) == set()


def _tabbed(driver: Any, most: int) -> set[str]:
    """Return what the Tab key reaches."""
    from selenium.webdriver.common.keys import Keys

    reached: list[str] = []
    for _ in range(most):
        driver.switch_to.active_element.send_keys(Keys.TAB)
        here = driver.execute_script(
            "const e = document.activeElement, all = [...document.querySelectorAll('*')]; return e === document.body ? '' : "
            "`${all.indexOf(e)} ${e.tagName}`"
        )
        if not here or here in reached:
            break
        reached.append(here)
    return set(reached)


def _asked_for(driver: Any) -> set[str]:
    """Return the addresses that the page asked for, but for itself and what it holds."""
    asked = set()
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        asks = message["method"] == "Network.requestWillBeSent"
        if asks and not message["params"]["documentURL"].startswith("chrome"):  # not the tab that it starts with
            asked.add(message["params"]["request"]["url"][:40])
    return {url for url in asked if not url.startswith(("file:", "data:"))}

"""summary.html: its curves say the numbers that were logged, nothing comes from outside, what it shows is escaped."""

import json
import os
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from livetoon.errors import TrainingError, UsageError
from trainer import chart, summary
from trainer.loggers import open_loggers


def value_of(text: str) -> float:
    return float(text[:-1]) * {"k": 1e3, "M": 1e6}[text[-1]] if text[-1] in "kM" else float(text)


def scale(texts: list[ElementTree.Element], axis: str, shift: float):
    """What the labels of an axis say about places: place -> number."""
    labels = [(float(each.get(axis)) + shift, value_of(each.text)) for each in texts if each.get("class") == axis]
    slope, start = np.polyfit(*zip(*labels, strict=True), 1)
    return lambda place: slope * place + start


def drawn(page: str) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Every chart's curves, read off the page as an eye would: by the labels of the axes."""
    charts = {}
    for article in re.findall(r'<article class="chart">.*?</article>', page, re.DOTALL):
        root = ElementTree.fromstring(article)
        plot = root.find("svg")
        if plot is None:
            charts[root.find("h3").text] = {}
            continue
        texts = plot.findall("text")
        x, y = scale(texts, "x", 0), scale(texts, "y", -4)
        curves: dict[str, list[tuple[float, float]]] = {}
        for line in plot.findall("polyline"):
            places = [place.split(",") for place in line.get("points").split()]
            curves.setdefault(line.find("title").text, []).extend((x(float(a)), y(float(b))) for a, b in places)
        charts[root.find("h3").text] = curves
    return charts


@pytest.fixture
def run(tmp_path):
    """A run that was really learnt: least squares by gradient descent in two groups and two stages."""
    run, random = tmp_path / "mine", np.random.default_rng(0)
    (run / "samples").mkdir(parents=True)
    config = {"preset": {"name": "fewshot", "cycle": 10.0}, "data": ["a", "b"], "metric_features": "efficientnet-lite0"}
    (run / "config.json").write_text(json.dumps(config))
    inputs, goal = random.normal(size=(40, 3)), random.normal(size=3)
    weights = {"many": np.zeros(3), "few": np.zeros(3)}
    with open_loggers([], run, config) as log:
        for stage, groups in ((1, ["many"]), (2, ["many", "few"])):
            for step in range(1, 21):
                figures = {"d_real_accuracy": 0.8, "d_fake_accuracy": 0.7 - step / 100}
                for group in groups:
                    error = inputs @ (weights[group] - goal)
                    weights[group] = weights[group] - 0.002 * inputs.T @ error
                    figures[f"{group}/cycle"] = float(np.abs(error).mean())
                    if step % 10 == 0:
                        figures[f"kid/{group}/photo-cartoon"] = float(error.var()) - 0.05
                log.figures(stage, step * 50, figures)
    return run


def test_curves_are_those_of_the_log(run):
    page = summary.write_summary(run).read_text()
    charts = drawn(page)
    assert list(charts) == ["KID photo-cartoon", "discriminator accuracy", "cycle"]  # what judges comes first
    assert set(charts["cycle"]) == {"many", "few"} and set(charts["discriminator accuracy"]) == {"real", "fake"}
    names = {"kid/many/photo-cartoon": ("KID photo-cartoon", "many"), "few/cycle": ("cycle", "few")}
    names |= {"many/cycle": ("cycle", "many"), "d_fake_accuracy": ("discriminator accuracy", "fake")}
    rows = summary.read_csv(run / "log" / "train.csv")
    for name, (title, one) in names.items():
        expected = [(step + (stage - 1) * 1000, value) for stage, step, each, value in rows if each == name]
        spread = max(value for _, value in expected) - min(value for _, value in expected)
        assert len(charts[title][one]) == len(expected)
        for (x, y), (step, value) in zip(charts[title][one], expected, strict=True):
            assert x == pytest.approx(step, abs=2000 / 400) and y == pytest.approx(value, abs=max(spread, 0.1) / 50)


def test_what_judges_pairs_and_faces_comes_before_the_losses(run):
    with open_loggers([], run, {}) as log:
        log.figures(2, 1000, {f"{name}/few/photo-cartoon": 0.5 for name in ("identity", "l1")} | {"few/identity": 1.0})
    page = summary.write_summary(run).read_text()
    first = ["KID photo-cartoon", "L1 photo-cartoon", "identity photo-cartoon", "discriminator accuracy"]
    assert list(drawn(page))[:4] == first and "identity" in list(drawn(page))[4:]  # a loss of that name too
    assert page.count("cosine of the faces") == page.count("from the cartoon of its photo") == 1


def test_the_page_names_the_network_the_place_and_the_last_figures(run):
    page = summary.write_summary(run).read_text()
    assert "preset fewshot · stage 2, step 1000" in page
    assert "efficientnet-lite0, lower is better" in page
    last = summary.read_csv(run / "log" / "train.csv")[-1]
    assert last[2] == "kid/few/photo-cartoon" and f"<td>{chart.number(last[3])}</td>" in page
    assert "<td>preset.cycle</td><td>10.0</td>" in page and "<td>data</td><td>a, b</td>" in page
    assert page.count(">stage 2</text>") == 3  # where the second stage begins, in each chart


class Checked(HTMLParser):
    """Every element closed in order, and no address that leads out of the run's folder."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.tags = [], [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "data", "xlink:href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def sample(run, name: str, age: int) -> None:
    path = run / "samples" / name
    path.write_bytes(b"jpeg")
    os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))


def test_the_page_is_whole_and_needs_nothing_from_outside(run):
    sample(run, "stage1-000050.jpg", 1)
    page = summary.write_summary(run).read_text()
    checked = Checked()
    checked.feed(page)
    assert checked.open == [] and not checked.tags & {"script", "link", "iframe", "object"}
    assert set(checked.addresses) == {"samples/stage1-000050.jpg"}
    assert "url(" not in page and "@import" not in page


def test_the_newest_samples_come_first_and_old_ones_are_folded_away(run):
    for index in range(9):
        sample(run, f"stage1-{index:06d}.jpg", age=100 - index)
    page = summary.write_summary(run).read_text()
    shown, folded = page.split("<details>")
    assert re.findall(r'src="samples/stage1-00000(\d)', shown) == list("876543")
    assert re.findall(r'src="samples/stage1-00000(\d)', folded) == list("210") and "3 older" in folded


def test_what_people_wrote_is_shown_as_text(tmp_path):
    run = tmp_path / "<i>&"
    (run / "samples").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"preset": {"name": "<script>alert(1)</script>"}, "<i>": '"&'}))
    sample(run, 'a"><script>#é.jpg', 1)
    with open_loggers([], run, {}) as log:
        log.figures(1, 1, {"<script>/cycle": 1.0, "kid/<script>/<svg>": 1.0})
        log.figures(1, 2, {"<script>/cycle": 2.0, "kid/<script>/<svg>": 2.0})
    page = summary.write_summary(run).read_text()
    checked = Checked()
    checked.feed(page)
    assert checked.open == [] and "script" not in checked.tags and "i" not in checked.tags
    assert "samples/a%22%3E%3Cscript%3E%23%C3%A9.jpg" in checked.addresses
    assert list(drawn(page)["cycle"]) == ["<script>"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_no_numbers_break_a_curve_and_no_page(tmp_path, bad):
    with open_loggers([], tmp_path, {}) as log:
        for step, value in enumerate([1.0, 2.0, bad, 3.0, 2.0], start=1):
            log.figures(1, step, {"many/cycle": value, "many/lost": bad})
    page = summary.write_summary(tmp_path).read_text()
    assert page.count("<polyline") == 2 and "no finite value" in page
    assert [round(y, 1) for _, y in drawn(page)["cycle"]["many"]] == [1.0, 2.0, 3.0, 2.0]


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [1e-13, 2e-13], [-3e7, 4e8]], ids=str)
def test_one_point_even_tiny_and_huge_values_are_drawn(tmp_path, values):
    with open_loggers([], tmp_path, {}) as log:
        for step, value in enumerate(values):
            log.figures(1, step, {"many/cycle": value})
    points = [(float(step), value) for step, value in enumerate(values)]
    page = chart.chart("cycle", [chart.Series("many", points)], "", {"many": 0}, {1: 0})
    root = ElementTree.fromstring(page)
    assert len(root.findall("svg/circle")) == len(values)
    labels = [each.text for each in root.findall("svg/text") if each.get("class") == "y"]
    assert len(set(labels)) == len(labels) > 1
    y = scale(root.findall("svg/text"), "y", -4)
    spread = max(map(abs, values)) or 1
    read = [y(float(dot.get("cy"))) for dot in root.findall("svg/circle")]
    assert read == pytest.approx(values, abs=spread / 50)
    assert summary.write_summary(tmp_path).stat().st_size > 1000


def test_a_long_run_is_thinned_and_keeps_its_mean(tmp_path):
    values = np.random.default_rng(0).random(5000)
    page = chart.chart("cycle", [chart.Series("many", list(enumerate(values.tolist())))], "", {"many": 0}, {1: 0})
    (read,) = drawn(page).values()
    assert 200 < len(read["many"]) <= chart.MOST_POINTS
    assert np.mean([y for _, y in read["many"]]) == pytest.approx(values.mean(), abs=0.01)


def test_an_unfinished_summary_leaves_the_old_one(run, monkeypatch):
    page = summary.write_summary(run).read_text()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        summary.write_summary(run)
    assert (run / "summary.html").read_text() == page
    assert sorted(path.name for path in run.iterdir()) == ["config.json", "log", "samples", "summary.html"]


def test_the_command_writes_the_page_or_says_why_not(run, tmp_path, capsys):
    assert summary.main([str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "summary.html")
    assert summary.main([str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no run lies there" in capsys.readouterr().err


def test_an_empty_folder_and_a_broken_configuration_are_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no run lies there"):
        summary.write_summary(tmp_path / "empty")
    (run / "config.json").write_text("{")
    with pytest.raises(TrainingError, match=r"config\.json: not JSON"):
        summary.write_summary(run)

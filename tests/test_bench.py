"""The benchmarks' pure parts: figures, tables, verdicts, and what a request at the engine's socket is."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import claims, report, results
from bench.figures import percentile, quartiles, upper_bound_of_median
from bench.results import Result
from bench.rounds import Rounds
from bench.socket_count import Counted
from bench.targets import TARGETS, Target


def test_percentiles_lie_between_neighbours() -> None:
    """A percentile is interpolated, and the ends are the smallest and largest sample."""
    samples = [3.0, 1.0, 2.0, 4.0, 5.0]
    assert quartiles(samples) == (2.0, 4.0)
    assert (percentile(samples, 0), percentile(samples, 100)) == (1.0, 5.0)
    assert percentile([1.0, 2.0], 95) == pytest.approx(1.95)
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 50)


@pytest.mark.parametrize(("count", "rank"), [(5, 5), (10, 9), (12, 10), (20, 15), (100, 59)])
def test_bound_of_a_median_is_the_sign_tests(count: int, rank: int) -> None:
    """The 95 % bound is the sample that tables of the sign test name (n = 10: the ninth)."""
    assert upper_bound_of_median([float(one) for one in range(count, 0, -1)]) == rank


def test_few_samples_bound_nothing() -> None:
    """Four samples may all lie below the median with 1 in 16, so they give no 95 % bound."""
    with pytest.raises(ValueError, match="too few"):
        upper_bound_of_median([1.0, 2.0, 3.0, 4.0])


def test_table_has_a_row_for_each_workload() -> None:
    """Medians come with quartiles and their number, what was not measured is a dash, round trips have their tail."""
    told = report.table({"start": {"ours": [0.05], "local": [1.0, 2.0, 3.0]}, "round trip": {"ours": [0.001, 0.003]}})
    assert told == (
        "| | local | ours |\n"
        "| --- | ---: | ---: |\n"
        "| start | **2.00 s** (1.50 s–2.50 s), n=3 | 50 ms |\n"
        "| round trip | – | **2 ms** (1.5 ms–2.5 ms), n=2 |\n"
        "| round trip, 99th percentile | – | 2.98 ms |\n"
    )


def test_results_survive_the_disk(tmp_path: Path) -> None:
    """What is written is what is read."""
    result = Result("starts", facts={"kernels": {"1": {"failures": 0}}}, command="python -m bench starts")
    result.add("start", "local", 1.25, 0.5)
    result.write(tmp_path)
    assert results.read(tmp_path) == {"starts": result}


def test_verdicts_follow_the_bounds() -> None:
    """A bound from above is met by what equals it or is less, one from below by what equals it or is more."""
    below = Target("x", 2, lambda found: 0, " s")
    above = Target("x", 2, lambda found: 0, "×", at_least=True)
    assert (below.met(2), below.met(2.1), above.met(2), above.met(1.9)) == (True, False, True, False)
    assert (below.bound(), above.shown(2.345)) == ("≤ 2 s", "2.35×")


def test_targets_of_what_was_not_measured_have_no_figure() -> None:
    """A missing measurement is left out of the verdicts, and never counts as met."""
    assert {target.measured({}) for target in TARGETS} == {None}
    starts = Result("starts")
    for contender, seconds in (("local", 0.5), ("docker run true", 0.3), ("tfgpu cold", 0.6)):
        starts.add("start to kernel_info", contender, seconds)
    told = {target.what: target.measured({"starts": starts}) for target in TARGETS}
    assert told["cold start to kernel_info, of local + floor"] == pytest.approx(0.75)


def test_verdict_is_a_line_for_each_target_that_was_measured() -> None:
    """One says plainly whether the figure is within the bound; targets of other measurements are left out."""
    result = Result("restarts")
    result.add("of that, after the old kernel's end", "tfgpu warm", 0.4, 0.7, 0.8)
    what = "restart, from the old kernel's end to the first TensorFlow result, median"
    assert report.verdicts({"restarts": result}) == f"MISSED: {what}: 0.7 s (≤ 0.5 s)\n"
    assert report.verdicts({}) == ""


def test_requests_are_counted_by_kind() -> None:
    """A request counts once, where it begins, without ids and versions; bodies and answers don't count."""
    counted = Counted()
    for piece in (
        b"GET /v1.41/containers/0123456789abcdef/json?x=1 HTTP/1.1\r\nHost: docker\r\n\r\n",
        b"GET /containers/fedcba9876543210/json HTTP/1.1\r\n\r\n",
        b"POST /v1.41/containers/create HTTP/1.1\r\n\r\n",
        b'{"Image": "GET / HTTP/1.1"}',
    ):
        counted.note(piece)
    assert counted.requests == {"GET /containers/ID/json": 2, "POST /containers/create": 1}


def test_what_the_readme_says_of_speed_is_replaced_in_its_place() -> None:
    """Only the text between the two marks changes, and a README without them is an error."""
    text = f"a\n{claims._BEGIN}old\n{claims._END}b\n"
    assert claims.put(text, "new\n") == f"a\n{claims._BEGIN}new\n{claims._END}b\n"
    with pytest.raises(ValueError, match="no place"):
        claims.put("a\n", "new\n")


def test_rounds_end_when_the_time_is_over() -> None:
    """One round is always taken; no other begins after the time."""
    assert list(Rounds(3)) == [0, 1, 2]
    assert list(Rounds(3, seconds=-1).warmed_up()) == [-1, 0]

import pytest

from chassis.server import cpus, workers


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "50000 100000"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
    ],
)
def test_the_cgroups_cpus_count_not_the_machines(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert cpus(tmp_path) == expected


@pytest.mark.parametrize("files", [{}, {"cpu.max": "max 100000"}, {"cpu.max": "nonsense"}])
def test_without_a_limit_it_is_the_machines(tmp_path, files):
    import os

    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert cpus(tmp_path) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("limit", "expected"), [(0.5, 2), (2, 2), (3, 3), (64, 4)])
def test_two_workers_at_the_least_and_four_at_the_most(monkeypatch, limit, expected):
    monkeypatch.setattr("chassis.server.cpus", lambda: limit)
    assert workers() == expected

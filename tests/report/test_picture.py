from entropo_plugin.report.picture import draw_curves


def test_a_png_of_several_runs(tmp_path):
    runs = {
        "stock GRPO": {"entropy": [1.5, 1.0, 0.5], "reward": [0.2, 0.4, 0.6], "target": []},
        "REPO-R": {"entropy": [1.5, 1.4], "reward": [0.2, 0.3], "target": [1.5, 1.5]},
    }
    path = draw_curves(runs, tmp_path / "demo.png", "title")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 10_000

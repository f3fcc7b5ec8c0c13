"""Pins of what is installed, whatever state an environment is in."""

from importlib import metadata

from pipeline.tracking.dependencies import _pinned


def test_what_cannot_be_pinned_is_left_out_and_of_two_the_first_counts(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, told in (
        (first / "torch-2.11.0.dist-info", "Name: torch\nVersion: 2.11.0+cu130\n"),
        (second / "torch-1.0.dist-info", "Name: torch\nVersion: 1.0\n"),
        (second / "old-unknown.dist-info", "Name: old\nVersion: 0.0.0-unknown\n"),
        (second / "damaged.dist-info", "Name: damaged\n"),
        (second / "numpy-2.4.0.dist-info", "Name: numpy\nVersion: 2.4.0\n"),
    ):
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\n{told}")
    found = metadata.distributions(path=[str(first), str(second)])
    assert _pinned(found) == ["numpy==2.4.0", "torch==2.11.0"]

"""examples/quantize_your_features.py: what it prints shows that the units come to serve the task."""

import re
import runpy
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "quantize_your_features.py"


def test_the_loss_falls_and_the_codebook_is_used(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", printed)]
    assert len(losses) == 5
    assert losses[-1] < 0.5 * losses[0]
    usage = [int(share) for share in re.findall(r"(\d+)% of units", printed)]
    assert usage[-1] > 60

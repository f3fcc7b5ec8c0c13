"""What the codebook's stage writes is what a quantizer starts from."""

import torch

from pipeline.clustering.codebook import Codebook, FittedCodebook
from pipeline.clustering.kmeans import fit_sample
from pipeline.storage.artifacts import METRICS, Artifact


def test_a_written_codebook_is_read_back_with_its_mean_distance(tmp_path):
    frames_ND = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    fit = fit_sample(frames_ND, 3, seed=0, max_passes=5, tolerance=1e-4)
    fitted, output = FittedCodebook(fit, frames_ND[:7], 60, 2), Artifact(str(tmp_path))
    fitted.write(output)
    output.write_json(METRICS, fitted.scores)
    codebook = Codebook.read(output)
    assert torch.equal(codebook.centroids_KD, fit.centroids_KD)
    assert torch.equal(codebook.calibration_ND, frames_ND[:7])
    assert codebook.mean_squared_distance == fit.sums.mean_squared_distance
    assert fitted.scores["num_frames"] == 60
    assert (fitted.scores["held_frames"], fitted.scores["rejected_frames"]) == (60, 2)
    assert fitted.scores["used_units"] == 3

"""Which centroid a frame belongs to: the nearest one, or a distribution over all of them."""

import torch
from torch import Tensor

from pipeline.clustering.logits import Distance, Logits
from pipeline.clustering.tiles import is_fused, kernels_on, tile_rows, tiles


class FramesError(ValueError):
    """Frames or centroids that cannot be used as they are; the message says why and the cure."""


def assign(frames_ND: Tensor, centroids_KD: Tensor) -> Tensor:
    """The index of each frame's nearest centroid, units_N int64; ties go to the lowest index.

    Raises:
        FramesError: the shapes do not fit, or a frame is not finite.
    """
    units_N, squared_distances_N = nearest(frames_ND, centroids_KD)
    bad = int((~torch.isfinite(squared_distances_N)).sum())
    if bad:
        raise not_finite(bad, len(frames_ND))
    return units_N


@torch.no_grad()
def nearest(frames_ND: Tensor, centroids_KD: Tensor) -> tuple[Tensor, Tensor]:
    """Each frame's nearest centroid and the squared Euclidean distance to it.

    Works in tiles and in float32, also under autocast; passes no gradient.

    Returns:
        units_N int64 (ties go to the lowest index) and squared_distances_N float32; a frame with
        NaN or infinity has no finite distance, and its unit means nothing.

    Raises:
        FramesError: the shapes do not fit.
    """
    require_shapes(frames_ND, centroids_KD)
    logits = Logits.of(centroids_KD, 1.0)
    if is_fused(frames_ND, len(centroids_KD)):
        from pipeline.clustering import fused

        with kernels_on(frames_ND):
            return fused.nearest(frames_ND, logits)
    centred_KD = logits.weight_KD / 2
    num_frames, widest = len(frames_ND), max(centroids_KD.shape)
    size = min(num_frames, tile_rows(widest, frames_ND.device))
    # All tiles share their buffers: allocating new ones would take as long as finding the largest.
    frames_RD, chosen_RD = (centred_KD.new_empty((size, centred_KD.shape[1])) for _ in range(2))
    logits_RK = centred_KD.new_empty((size, len(centred_KD)))
    units_N = torch.empty(num_frames, dtype=torch.int64, device=frames_ND.device)
    largest_N, squared_distances_N = (centred_KD.new_empty(num_frames) for _ in range(2))
    with torch.autocast(frames_ND.device.type, enabled=False):
        for span in tiles(num_frames, widest, frames_ND.device):
            count = span.stop - span.start
            frames = frames_RD[:count].copy_(frames_ND[span]).sub_(logits.origin_D)
            tile_RK = logits.write(frames, logits_RK[:count])
            torch.max(tile_RK, dim=1, out=(largest_N[span], units_N[span]))
            chosen = chosen_RD[:count]
            torch.index_select(centred_KD, 0, units_N[span], out=chosen)
            frames.sub_(chosen)
            torch.linalg.vecdot(frames, frames, out=squared_distances_N[span])
    return units_N, squared_distances_N


@torch.no_grad()
def closeness(frames_ND: Tensor, centroids_KD: Tensor, distance: Distance = "squared") -> Tensor:
    """-d(s, mu_j) up to a constant of each frame, closeness_NK float32; passes no gradient."""
    with torch.autocast(frames_ND.device.type, enabled=False):
        logits = Logits.of(centroids_KD, 1.0, distance)
        moved_ND = frames_ND.float() - logits.origin_D
        return logits.write(moved_ND, moved_ND.new_empty((len(moved_ND), len(centroids_KD))))


def log_probabilities(closeness_NK: Tensor, sigma_squared: Tensor | float) -> Tensor:
    """The logarithm of p(j | s) = softmax_j(-sigma^2 d(s, mu_j))."""
    return torch.log_softmax(sigma_squared * closeness_NK, dim=1)


def mixture(closeness_NK: Tensor, tau: float) -> Tensor:
    """How much of each unit a frame is, softmax_j(-d(s, mu_j) / tau); one unit alone as tau goes to 0.

    Source: Onda et al., "Leveraging Soft Distributions of SSL-Derived Discrete Speech Tokens for
    Downstream Inference" (arXiv 2606.06806), where d is the plain distance.
    """
    return log_probabilities(closeness_NK, 1 / tau).exp()


def entropy(log_p_NK: Tensor) -> Tensor:
    """The entropy of each row's distribution, entropy_N in nats."""
    return -(log_p_NK.exp() * log_p_NK).sum(dim=1)


def require_shapes(frames_ND: Tensor, centroids_KD: Tensor) -> None:
    """Check that frames and centroids have matching shapes.

    Raises:
        FramesError: says which shapes there are and which are expected.
    """
    fits = frames_ND.ndim == centroids_KD.ndim == 2 and frames_ND.shape[1] == centroids_KD.shape[1]
    if not fits or len(centroids_KD) == 0:
        raise FramesError(
            f"frames {list(frames_ND.shape)} and centroids {list(centroids_KD.shape)} must be "
            "frames x dim and units x dim, of one dim and with at least one unit: were both made "
            "from the same SSL model?"
        )


def require_finite(frames_ND: Tensor) -> None:
    """Check that no frame has NaN or infinity, which would silently become unit 0.

    Raises:
        FramesError: says how many frames are affected.
    """
    # One value that is not finite makes the sum of its row so; a sum is quicker than N x D checks.
    bad = int((~torch.isfinite(frames_ND.sum(dim=1, dtype=torch.float32))).sum())
    if bad:
        raise not_finite(bad, len(frames_ND))


def not_finite(bad: int, num_frames: int) -> FramesError:
    """The error for `bad` of `num_frames` frames that hold NaN or infinity."""
    return FramesError(
        f"{bad} of {num_frames} frames hold NaN or infinity: the SSL model overflowed or "
        "training diverged; lower the learning rate, or compute features in float32"
    )

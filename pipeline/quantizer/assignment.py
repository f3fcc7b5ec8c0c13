"""Which centroid a frame belongs to: the nearest one, or a distribution over all of them."""

import torch
from torch import Tensor

# Largest frames x centroids matrix held at once when no gradient is needed: 64 MiB of float32.
MAX_CHUNK_ELEMENTS = 1 << 24


def assign(frames_ND: Tensor, centroids_KD: Tensor) -> Tensor:
    """The index of each frame's nearest centroid, units_N int64; ties go to the lowest index.

    Raises:
        ValueError: the shapes do not fit, or a frame is not finite.
    """
    return nearest(frames_ND, centroids_KD)[0]


@torch.no_grad()
def nearest(frames_ND: Tensor, centroids_KD: Tensor) -> tuple[Tensor, Tensor]:
    """Each frame's nearest centroid and the squared Euclidean distance to it.

    Works in chunks and in float32, also under autocast; passes no gradient.

    Returns:
        units_N int64 (ties go to the lowest index) and squared_distances_N float32.

    Raises:
        ValueError: the shapes do not fit, or a frame is not finite.
    """
    require_shapes(frames_ND, centroids_KD)
    units, squared_distances = [], []
    with torch.autocast(frames_ND.device.type, enabled=False):
        centroids_KD = centroids_KD.float()
        for chunk in frames_ND.split(max(1, MAX_CHUNK_ELEMENTS // len(centroids_KD))):
            frames = chunk.float()
            require_finite(frames)
            chosen = closeness(frames, centroids_KD).argmax(dim=1)
            units.append(chosen)
            squared_distances.append((frames - centroids_KD[chosen]).square().sum(dim=1))
    return torch.cat(units), torch.cat(squared_distances)


def closeness(frames_ND: Tensor, centroids_KD: Tensor) -> Tensor:
    """-||s - mu_j||^2 up to a constant of each frame, closeness_NK float32, differentiable.

    The constant, ||s||^2, changes neither the order of the centroids nor a softmax over them.
    Distances do not change when frames and centroids move together, so both are moved to the
    centroids' mean: what is then subtracted is small, and float32 loses less of it.
    """
    with torch.autocast(frames_ND.device.type, enabled=False):
        centroids_KD = centroids_KD.float()
        origin_D = centroids_KD.detach().mean(dim=0)
        centred_KD = centroids_KD - origin_D
        products_NK = (frames_ND.float() - origin_D) @ centred_KD.T
        return 2 * products_NK - centred_KD.square().sum(dim=1)


def log_probabilities(closeness_NK: Tensor, sigma_squared: Tensor | float) -> Tensor:
    """The logarithm of p(j | s) = softmax_j(-sigma^2 ||s - mu_j||^2)."""
    return torch.log_softmax(sigma_squared * closeness_NK, dim=1)


def entropy(log_p_NK: Tensor) -> Tensor:
    """The entropy of each row's distribution, entropy_N in nats."""
    return -(log_p_NK.exp() * log_p_NK).sum(dim=1)


def require_shapes(frames_ND: Tensor, centroids_KD: Tensor) -> None:
    """Refuse frames and centroids that do not fit each other.

    Raises:
        ValueError: says which shapes were met and which were expected.
    """
    fits = frames_ND.ndim == centroids_KD.ndim == 2 and frames_ND.shape[1] == centroids_KD.shape[1]
    if not fits or len(centroids_KD) == 0:
        raise ValueError(
            f"frames {list(frames_ND.shape)} and centroids {list(centroids_KD.shape)} must be "
            "frames x dim and units x dim, of one dim and with at least one unit: were both made "
            "from the same SSL model?"
        )


def require_finite(frames_ND: Tensor) -> None:
    """Refuse frames with NaN or infinity, which would silently become unit 0.

    Raises:
        ValueError: says how many frames are affected.
    """
    bad = int((~torch.isfinite(frames_ND)).any(dim=1).sum())
    if bad:
        raise ValueError(
            f"{bad} of {len(frames_ND)} frames hold NaN or infinity: the SSL model overflowed or "
            "training diverged; lower the learning rate, or compute features in float32"
        )

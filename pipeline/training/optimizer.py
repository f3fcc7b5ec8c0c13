"""AdamW with a group of parameters for each learning rate."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from pipeline.config import Phase
from pipeline.features.ssl import SslModel
from pipeline.training.learner import Learner

DECAYING = ("asr", "ssl")  # only networks, not the codebook or the layer weights


def make_optimizer(model: Learner, phase: Phase, weight_decay: float) -> torch.optim.Optimizer:
    """The optimizer of what learns now; each group has its `peak_rate`.

    Raises:
        ValueError: the quantizer names a group that has no learning rate.
    """
    rates = phase.learning_rates.model_dump()
    shares = model.rate_shares(phase)
    groups = []
    for name, parameters in model.parameter_groups().items():
        if name not in rates:
            raise ValueError(
                f"the quantizer's parameter group '{name}' has no learning rate: parameter_groups "
                f"may name {list(rates)}"
            )
        decay = weight_decay if name in DECAYING else 0.0
        groups += [
            {"params": alike, "peak_rate": share * rates[name], "weight_decay": decay}
            for share, alike in _by_share(parameters, shares).items()
        ]
    return torch.optim.AdamW(groups, lr=rates["asr"], betas=(0.9, 0.98), fused=True)


def ssl_rate_shares(ssl: SslModel, decay: float) -> dict[nn.Parameter, float]:
    """What share of `learning_rates.ssl` each parameter of the SSL model has.

    Block l of L has decay^(L - l), what comes before the first block decay^L, and what comes after
    the last one 1.
    """
    blocks = ssl.blocks()
    shares = dict.fromkeys(ssl.parameters(), decay ** len(blocks))
    for below_top, block in enumerate(reversed(blocks)):
        shares |= dict.fromkeys(block.parameters(), decay**below_top)
    if ssl.final_norm is not None:
        shares |= dict.fromkeys(ssl.final_norm.parameters(), 1.0)
    return shares


def _by_share(
    parameters: Sequence[nn.Parameter], shares: Mapping[nn.Parameter, float]
) -> dict[float, list[nn.Parameter]]:
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(shares.get(parameter, 1.0), []).append(parameter)
    return groups

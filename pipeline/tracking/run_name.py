"""Which MLflow run is whose: a run is known by a digest among its tags, not by an id of a server."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.config import Config, digest
from pipeline.graph.graph import Node
from pipeline.redaction import redact

VARIANT_TAG = "pipeline.variant"
CONFIG_DIGEST_TAG = "pipeline.config_digest"
STAGE_TAG = "pipeline.stage"
STAGE_DIGEST_TAG = "pipeline.stage_digest"
MEMBER_TAG = "pipeline.member"

# Sections that change no result: they may differ between two runs of one variant.
UNTRACKED_SECTIONS = {"storage", "tracking", "cluster"}


@dataclass(frozen=True)
class RunName:
    """A run by its experiment and digest; one that does not exist is created below its `parent`."""

    experiment: str
    digest_tag: str
    digest: str
    name: str = field(compare=False)
    labels: Mapping[str, str] = field(compare=False, default_factory=dict)
    parent: "RunName | None" = field(compare=False, default=None)

    @property
    def tags(self) -> dict[str, str]:
        return {**self.labels, self.digest_tag: self.digest}


def name_of_variant(config: Config) -> RunName:
    """A variant with these settings."""
    settings = config.document(UNTRACKED_SECTIONS, whole=True)
    name = redact(config.variant)
    labels = {VARIANT_TAG: name}
    return RunName(config.tracking.experiment, CONFIG_DIGEST_TAG, digest(settings), name, labels)


def name_of_stage(node: Node, variant: RunName) -> RunName:
    """The stage that makes an output, a child of the variant that made it first."""
    own = {MEMBER_TAG: node.member} if node.member else {}
    shown = ", ".join((node.name, *own.values()))
    labels = {STAGE_TAG: node.name, **own}
    return RunName(variant.experiment, STAGE_DIGEST_TAG, node.digest, shown, labels, variant)

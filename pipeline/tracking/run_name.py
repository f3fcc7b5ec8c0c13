"""Which MLflow run is whose: a run is known by its tags, not by an id that a server assigns."""

from dataclasses import dataclass

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
    """A run by its experiment and tags; one that does not exist is created under its `parent`."""

    experiment: str
    name: str
    tags: tuple[tuple[str, str], ...]
    parent: "RunName | None" = None


def name_of_variant(config: Config) -> RunName:
    """A variant with these settings."""
    settings = config.model_dump(mode="json", exclude=UNTRACKED_SECTIONS)
    name = redact(config.variant)
    tags = ((VARIANT_TAG, name), (CONFIG_DIGEST_TAG, digest(settings)))
    return RunName(config.tracking.experiment, name, tags)


def name_of_stage(node: Node, variant: RunName) -> RunName:
    """The stage that makes an output, a child of the variant that made it first.

    Those of a variant's members (`seed 1`) are told apart.
    """
    own = ((MEMBER_TAG, node.member),) if node.member else ()
    tags = ((STAGE_TAG, node.name), (STAGE_DIGEST_TAG, node.digest), *own)
    shown = f"{node.name}, {node.member}" if node.member else node.name
    return RunName(variant.experiment, shown, tags, parent=variant)

"""What a page is made of, told without making it: matplotlib and jinja2 are not imported here."""

from pipeline.config.digests import digest
from pipeline.graph.graph import Graph


def outputs_of(graph: Graph) -> str:
    """A digest of what a page of this graph is made of: its outputs, and which are complete."""
    found = {" ".join(node.key): node.artifact.is_complete() for node in graph.nodes}
    return digest({"variants": [member.config.variant for member in graph.members], **found})

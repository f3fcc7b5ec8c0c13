"""Differentiable k-means for discrete speech tokens: from a folder of audio to a trained tokenizer."""

import fsspec

# Whoever opens an s3:// address in a process of ours gets this one; it is imported when first used.
fsspec.register_implementation("s3", "pipeline.storage.s3.ObjectStore", clobber=True)

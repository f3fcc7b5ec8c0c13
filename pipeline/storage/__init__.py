"""Storage: artifacts with manifests, folders, S3, and the columns of tables."""

"""The page that shows what configs have given: one HTML file, made of what the stages stored."""

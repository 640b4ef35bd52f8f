"""Builders of the data sets that come with the package."""

"""The package's version; it also stands in every exported file."""

__version__ = "0.2.0.dev0"

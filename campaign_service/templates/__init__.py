"""The template language: parsed once, within limits, and rendered for each receiver."""

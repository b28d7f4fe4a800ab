"""Reverse-mode differentiation over recorded calls."""

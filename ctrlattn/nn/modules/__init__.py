"""Torch modules: controlled attention, its relatives, and the networks made of them."""

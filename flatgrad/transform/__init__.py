"""Passes from function to function: derivatives and clean-up."""

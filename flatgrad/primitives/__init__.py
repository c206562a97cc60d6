"""The rulebook: for every function its type rule, derivative rules and samples, side by side."""

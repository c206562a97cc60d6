"""From Python source to typed SSA."""

"""From IR to Python source that a person would have written."""

"""Facts about functions; they never change them."""

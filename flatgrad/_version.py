"""The version of flatgrad, in one place."""

VERSION = "0.1.0"

"""The intermediate representation: typed, structured SSA. Data, printer, verifier, interpreter."""

"""Operations: each defined once, as a formula with its gradient, or as a composition of others."""

"""The loop IR: scalar expressions, loop nests over them, their simplification and verification."""

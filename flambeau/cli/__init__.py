"""The commands of ``python -m flambeau``, one module per topic; nothing in the package imports them."""

"""The recording stream: calls are appended (``record``), looked up as plans (``cache``) and executed (``flush``)."""

"""How fast is it here? The pipeline beside a bare pyzmq loop and beside the naive asyncio pipeline, in one run."""

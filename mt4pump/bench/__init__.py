"""``mt4pump bench``: the pipeline beside a bare pyzmq loop and a naive asyncio pipeline, in one run."""

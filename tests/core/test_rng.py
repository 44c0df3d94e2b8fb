from prune_cli.core.rng import generator, stream_seed


def test_streams_are_stable_across_machines() -> None:
    # By hand: the first 8 bytes of SHA-256("0" US "str:a"), shifted by one bit.
    import hashlib

    assert stream_seed(0, "a") == int(hashlib.sha256(b"0\x1fstr:a").hexdigest()[:16], 16) >> 1


def test_streams_with_other_names_differ() -> None:
    seeds = {stream_seed(0), stream_seed(1), stream_seed(0, "a", "bc"), stream_seed(0, "ab", "c"), stream_seed(0, 1), stream_seed(0, "1")}
    assert len(seeds) == 6


def test_a_generator_repeats() -> None:
    assert generator(7, "x").random(3).tolist() == generator(7, "x").random(3).tolist()
    assert generator(7, "x").random(3).tolist() != generator(7, "y").random(3).tolist()

import numba
import numpy as np
import torch

from prune_cli.methods.devices import numba_threads


def test_torch_keeps_its_threads_and_numba_takes_no_more() -> None:
    @numba.njit(parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
    def doubled(values):  # type: ignore[no-untyped-def]
        for i in numba.prange(len(values)):
            values[i] *= 2.0

    before = torch.get_num_threads()
    with numba_threads():
        assert numba.get_num_threads() <= before
        doubled(np.ones(10))
    assert torch.get_num_threads() == before

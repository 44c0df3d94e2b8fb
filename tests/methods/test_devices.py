import numba
import numpy as np
import pytest
import torch

from prune_cli.methods.devices import numba_threads, tensor_of


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


def test_a_protected_array_is_no_copy_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    values = np.arange(6.0)
    values.flags.writeable = False
    for given in (values, np.arange(6.0)):
        tensor = tensor_of(given)
        assert tensor.data_ptr() == given.ctypes.data and tensor.tolist() == given.tolist()
    assert not recwarn.list

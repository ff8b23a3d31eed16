import jax
import pytest

from networks import arelit, chunked, gtrxl, recurrence


@pytest.fixture
def x64():
    """Float64 within the test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def short_chunks():
    """Chunks and blocks short enough that short segments span several, the last one not full."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gtrxl, "MAX_BLOCK", 2)
        patch.setattr(recurrence, "MATRIX_CHUNK", 2)
        patch.setattr(arelit, "CHUNK_LENGTH", {"sequential": 2, "associative": 2})
        patch.setattr(arelit, "MOST_KEPT", 0)
        patch.setattr(chunked, "CHUNK_LENGTH", {"cpu": 2, "accelerator": 2})
        yield

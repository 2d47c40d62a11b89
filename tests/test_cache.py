"Tokens on disk survive a killed process: what was finished stays, the rest is made, and nothing differs from an undisturbed run."
import os, signal, subprocess, sys, time
import pytest
import torch
from solopose.spatial import SpatialEncoder
from solopose.token_cache import TokenCache, cache_tokens

SCRIPT = """
import sys, time, torch
from solopose.spatial import SpatialEncoder
from solopose.token_cache import cache_tokens
torch.manual_seed(0); torch.set_num_threads(1)
encoder = SpatialEncoder('timm:byobnet', image_size=64, trainable=False)
encoder.register_forward_hook(lambda m, i, o: time.sleep(.05))
cache_tokens(encoder, torch.rand(64, 3, 64, 64, generator=torch.Generator().manual_seed(1)), sys.argv[1], chunk=4, batch=4)
"""


@pytest.fixture(scope='module')
def encoder():
    torch.manual_seed(0)
    return SpatialEncoder('timm:byobnet', image_size=64, trainable=False)


def test_kill_and_resume(tmp_path, encoder):
    video = torch.rand(64, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    job = subprocess.Popen([sys.executable, '-c', SCRIPT, str(tmp_path / 'killed')], env={**os.environ, 'OMP_NUM_THREADS': '1'})
    chunks, end = lambda: sorted((tmp_path / 'killed').glob('*.safetensors')), time.time() + 120
    while len(chunks()) < 3 and job.poll() is None and time.time() < end: time.sleep(.01)
    os.kill(job.pid, signal.SIGKILL); assert job.wait() == -signal.SIGKILL, 'it finished before it could be killed'
    done = len(chunks())
    assert 3 <= done < 16
    with pytest.raises(ValueError, match='was interrupted'): TokenCache(tmp_path / 'killed')
    asked = []
    (tmp_path / 'killed' / '.000000060.safetensors.1.part').write_bytes(b'half a')   # as a kill leaves it
    hook = encoder.register_forward_hook(lambda m, i, o: asked.append(len(i[0])))
    resumed = cache_tokens(encoder, video, tmp_path / 'killed', chunk=4, batch=4); hook.remove()
    assert sum(asked) == 64 - 4 * done
    whole = cache_tokens(encoder, video, tmp_path / 'whole', chunk=4, batch=4)
    assert torch.equal(resumed[:], whole[:])
    assert not list((tmp_path / 'killed').glob('.*.part'))

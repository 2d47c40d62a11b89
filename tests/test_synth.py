"solopose_synth end to end: clips, resume after a kill, bad arguments, workers in other processes, four data sets."
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
import numpy as np
import pytest
import torch

pytest.importorskip('warp', reason='drawing people needs solopose[synth]')


def command(*args):
    "The command in a process of its own, started."
    script = Path(tempfile.gettempdir()) / f'solopose_synth_{os.getpid()}.py'  # fastcore reads the arguments of a script, not of `python -c`
    script.write_text('from solopose.synth.command import solopose_synth\nsolopose_synth()\n')
    return subprocess.Popen([sys.executable, str(script), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | dict(OMP_NUM_THREADS='1'))


def ended(p):
    out, err = p.communicate(timeout=300)
    return p.returncode, out, err


SMALL = ('--frames', 2, '--size', 64, '--seed', 3)


def test_killed_and_resumed(tmp_path):
    a, b = tmp_path / 'a', tmp_path / 'b'
    p = command('--clips', 400, '--out', a, *SMALL)
    end = time.time() + 240
    while len(list(a.glob('clip_*.mp4'))) < 2 and time.time() < end: time.sleep(.1)
    p.kill(); p.communicate()
    done = sorted(a.glob('clip_*.mp4'))
    assert 2 <= len(done) < 400
    n = len(done) + 1
    before = {f.name: f.stat().st_mtime_ns for f in done}
    code, out, err = ended(command('--clips', n, '--out', a, *SMALL))
    assert code == 0, err
    assert out.strip() == f'1 new clips in {a}'
    assert {f: (a / f).stat().st_mtime_ns for f in before} == before  # finished clips were left alone
    assert ended(command('--clips', n, '--out', b, *SMALL))[0] == 0
    import xarray as xr
    for f in sorted(b.glob('clip_*.mp4')):
        assert f.read_bytes() == (a / f.name).read_bytes()  # interrupted or not, the same clip
        truth = [xr.open_dataset(d / f'{f.stem}_truth.nc', engine='h5netcdf').load() for d in (a, b)]
        xr.testing.assert_identical(*truth)
    assert {'position', 'image_position', 'visible'} <= set(truth[0])


@pytest.mark.parametrize('args, words', [
    (('--out', 'x'), 'nothing to do'),
    (('--clips', 1, '--size', 100), '--size is 100: give a multiple of 8'),
    (('--clips', 1, '--frames', 0), '--frames is 0: give a positive number'),
    (('--clips', 1, '--kind', 'val'), "choose 'train' or 'test'"),
    (('--clips', 1, '--pack', 'nowhere.safetensors'), 'nowhere.safetensors'),
    (('--clips', 1, '--motions', 'nowhere.safetensors'), 'nowhere.safetensors'),
    (('--clips', 1, '--photos', 'nowhere'), 'nowhere'),
    (('--native', 'coco'), "no layout called 'coco'"),
])
def test_bad_arguments(args, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = ended(command(*args))
    last = err.strip().splitlines()[-1]
    assert code == 2 and last.startswith('solopose_synth: ') and words in last and 'Traceback' not in err


def test_the_same_items_from_any_number_of_workers():
    from itertools import islice
    from solopose.synth.stream import SynthStream
    stream = SynthStream(frames=2, size=64, seed=1)
    alone = list(islice(stream, 4))
    loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context='spawn')
    for a, b in zip(alone, islice(loader, 4)):
        for k in a: assert torch.equal(a[k], b[k]), k


def test_four_layouts(tmp_path):
    pytest.importorskip('solopose.data.takes', reason='the readers of the four data sets')
    code, out, err = ended(command('--native', 'h36m,mads,aist,mpi', '--takes', 1, '--seconds', .2, '--out', tmp_path, '--size', 128))
    assert code == 0, err
    from importlib import import_module
    for name in ('h36m', 'mads', 'aist', 'mpi'):
        takes = list(getattr(import_module(f'solopose.data.{name}'), f'read_{name}')(tmp_path / name))
        assert len(takes) == 1 and np.isfinite(takes[0].in_camera(takes[0].views[0].name)).all()
        assert any(v.video is not None and Path(v.video).exists() for v in takes[0].views)
    assert not list(tmp_path.glob('.*.draft'))
    code, out, err = ended(command('--native', 'h36m', '--takes', 1, '--seconds', .2, '--out', tmp_path, '--size', 128))
    assert code == 0 and 'drawing' not in err  # it is there already

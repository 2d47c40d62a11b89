"The collection built from native trees by its command, killed at random moments, and given bad data."
import multiprocessing, os, random, shutil, signal, subprocess, sys, time
from functools import partial
from pathlib import Path
import numpy as np
import pytest
from solopose.cli import clear_errors
from solopose.data.augmotion import solopose_augmotion
from solopose.data.build import build, check_manifest, read_report
from solopose.data.prepare import Collection, at_rate
from solopose.data.sources import read_source
from solopose.synth.trees import write_trees
from solopose.data.store import open_augmotion, take_poses, view_poses, views_apart
from solopose.synth.recordings import moving_person
from solopose.data.takes import Take, View
from solopose.skeleton import SKELETON

SMALL = Collection(shard=512)
ENTRY = [sys.executable, __file__] # this file is the console script when it is run


def slowly(points, view, wait=.02):
    "A reader that takes its time, so that a kill finds it at work."
    time.sleep(wait)
    return points


def crowd(n=24, seconds=8):
    "Takes in memory: `n` copies of three people, 25 poses a second."
    people = [moving_person(i, seconds, 25) for i in range(3)]
    return [Take('demo', f'p{i}', 'move', f'take {i:02d}', SKELETON, 25, len(p.joints), partial(slowly, p.joints + 10. * i), up=(0, 0, 1), head='head_top',
                 views=[View(c.name, c) for c in p.cameras]) for i in range(n) for p in [people[i % 3]]]


def contents(store):
    "Every file of a folder and its bytes."
    return {str(p.relative_to(store)): p.read_bytes() for p in sorted(Path(store).rglob('*')) if p.is_file()}


def where(work):
    "What a killed build was doing."
    if not (work / 'plan.json').exists(): return 'planning'
    if (work / 'indexed').exists(): return 'writing'
    return 'indexing' if (work / 'store').exists() else 'reading'


def test_killed_twenty_times(tmp_path):
    # small takes, one process, artificial slowness: 20 kills -9 at random moments, each of a build that was at work
    takes, dice = crowd(), random.Random(0)
    build(takes[:1], tmp_path / 'warm', SMALL, progress=False)   # what is imported late
    start = time.time(); whole = build(takes, tmp_path / 'whole', SMALL, progress=False); took = time.time() - start
    truth, kills, finished, found = contents(whole), 0, 0, []
    assert len(truth) > 40 and check_manifest(whole) == []
    while kills < 20:
        child = multiprocessing.get_context('fork').Process(target=build, args=(takes, tmp_path / 'cut', SMALL), kwargs=dict(progress=False))
        child.start(); child.join(dice.uniform(.02, .7) * took)
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL); child.join(); kills += 1
            found.append(where(tmp_path / '.cut.building'))
            assert not (tmp_path / 'cut').exists() or contents(tmp_path / 'cut') == truth   # a store with its name is whole
        if (tmp_path / 'cut').exists():
            assert child.exitcode in (0, -signal.SIGKILL) and contents(tmp_path / 'cut') == truth
            finished += 1; shutil.rmtree(tmp_path / 'cut')
    assert contents(build(takes, tmp_path / 'cut', SMALL, progress=False)) == truth
    assert not (tmp_path / '.cut.building').exists() and {'reading', 'writing'} <= set(found)
    print(f'{kills} kills, in {({f: found.count(f) for f in found})}; {finished + 1} stores, all the same {sum(map(len, truth.values()))} bytes')


def command(*args, code=0, **kw):
    "`solopose_augmotion` in a fresh process: stdout, stderr."
    done = subprocess.run([*ENTRY, *map(str, args)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}, **kw)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def options(trees): return [a for name, root in trees.items() for a in (f'--{name}', root)]


@pytest.fixture(scope='module')
def trees(tmp_path_factory): return write_trees(tmp_path_factory.mktemp('data'))


def test_four_trees_end_to_end(trees, tmp_path):
    out, err = command(*options(trees), '--out', tmp_path / 'a.zarr', '--workers', 2)
    assert 'reading takes' in err and 'heldout' in out
    ds, report = open_augmotion(tmp_path / 'a.zarr'), read_report(tmp_path / 'a.zarr')
    natives = sorted((t for name, root in trees.items() for t in read_source(name, root)), key=lambda t: (t.dataset, t.name))
    assert ds.sizes['take'] == len(natives) == 14 and report['skipped'] == [] and report['largest_gap_mm'] < 1e-3
    for i, t in enumerate(natives):
        views = np.flatnonzero(ds.view_take.values == i)
        each = {k: at_rate(t.in_camera(str(ds.view_name.values[k])), t.fps, 25)[0] for k in views}
        before, after, projected = views_apart(each, int(ds.take_key[i]))
        assert len(views) == len(t.views) > 2 and before[1] > 100 and after[1] < 1e-3
        for k in views:   # what the store holds leads back to what every camera saw, and is one pose for all
            assert np.abs(view_poses(ds, k) - each[k]).max() < 1e-3
            R, t0 = ds.view_rotation.values[k], ds.view_translation.values[k]
            assert np.abs((each[k] - t0) @ R - take_poses(ds, i)).max() < 1e-3
    split, owner = ds.clip_split.values, ds.view_take.values[ds.clip_view.values]
    person = np.array([f'{d} {s}' for d, s in zip(ds.take_dataset.values, ds.take_subject.values)])[owner]
    assert all(len(set(split[person == p])) == 1 for p in set(person)) and set(person[split == 3]) == {'h36m S9'}
    total = next(r for r in report['rows'] if r['split'] == 'collection')
    assert total['clips'] == (split != 3).sum() and total['frames'] > 2 * total['poses']


LAB = """
from solopose.data.sources import as_take
from solopose.data.takes import Takes
from solopose.synth.recordings import moving_person
def read(root): return Takes([as_take(moving_person(i, 2., 25, f'p{i}', 'walk'), 'lab') for i in range(3)])
"""


def test_another_data_set(trees, tmp_path):
    "A reader of five lines, by its place or by an entry point of its package, beside one of the four; the store opens without a warning."
    import warnings
    import xarray as xr
    (tmp_path / 'my_lab.py').write_text(LAB)
    about = tmp_path / 'my_lab-1.0.dist-info'
    about.mkdir()
    (about / 'METADATA').write_text('Metadata-Version: 2.1\nName: my_lab\nVersion: 1.0\n')
    (about / 'entry_points.txt').write_text('[solopose.data]\nlab = my_lab:read\n')
    env = {**os.environ, 'PYTHONPATH': f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    for name, store in (('my_lab:read', 'a.zarr'), ('lab', 'b.zarr')):
        done = subprocess.run([*ENTRY, '--mads', trees['mads'], '--data', f'{name}={tmp_path}', '--out', tmp_path / store, '--workers', '1'], capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            ds = xr.open_zarr(tmp_path / store)
        assert ds.take_dataset.values.tolist() == ['lab'] * 3 + ['mads'] * 3
    here = command('--data', f'my_lab:read={tmp_path}', '--out', 'c.zarr', '--workers', 2, cwd=tmp_path)[0]   # the folder one stands in
    assert 'lab ' in here and (tmp_path / 'c.zarr').exists()
    said = command('--data', 'nobody=x', code=2)[1]
    assert said.count('\n') == 1 and "'nobody'" in said and 'module:function' in said


def refused(capsys, says, **kw):
    "Exit code 2 and one line that says so."
    with pytest.raises(SystemExit) as stop, clear_errors('solopose_augmotion'):
        solopose_augmotion(**{k: str(v) if isinstance(v, Path) else v for k, v in kw.items()})
    lines = [l for l in capsys.readouterr().err.splitlines() if l.strip()]
    assert stop.value.code == 2 and len(lines) == 1 and lines[0].startswith('solopose_augmotion: ') and says in lines[0], lines


def test_refusals(trees, tmp_path, capsys):
    one = dict(mads=trees['mads'], out=tmp_path / 'a.zarr', workers=1)
    solopose_augmotion(**{k: str(v) if isinstance(v, Path) else v for k, v in one.items()}); first = capsys.readouterr().out
    solopose_augmotion(**{k: str(v) if isinstance(v, Path) else v for k, v in one.items()})
    assert capsys.readouterr().out == first   # the same command finds it finished
    for extra, says in ((dict(seed=1), 'begun with seed=0, not seed=1'), (dict(fps=50.), 'begun with fps=25.0, not fps=50.0'), (dict(split='camera'), "split='camera' is not one of"), (dict(interpolation='cubic'), "interpolation='cubic' is not one of"),
                        (dict(mpi=tmp_path / 'none'), 'no such file or folder'), (dict(aist=trees['aist']), 'begun with aist=None'), (dict(aist=trees['mads']), '--aist')):
        refused(capsys, says, **one | extra)
    (tmp_path / 'mine').mkdir(); (tmp_path / 'mine' / 'thesis.tex').touch()
    refused(capsys, 'is no AugMotion store', **one | dict(out=tmp_path / 'mine')); assert (tmp_path / 'mine' / 'thesis.tex').exists()
    refused(capsys, 'give at least one of')
    assert command(code=2)[1].count('\n') == 1   # and so from the shell


def test_command_killed_with_its_workers(trees, tmp_path):
    command(*options(trees), '--out', tmp_path / 'a.zarr', '--workers', 1)
    call = [*ENTRY, *map(str, options(trees)), '--out', str(tmp_path / 'b.zarr'), '--workers', '2']
    child, parts = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), tmp_path / '.b.zarr.building' / 'parts'
    while child.poll() is None and not (parts.exists() and any(parts.iterdir())): time.sleep(.05)
    child.kill(); child.wait()
    assert not (tmp_path / 'b.zarr').exists()
    command(*options(trees), '--out', tmp_path / 'b.zarr', '--workers', 2)
    assert contents(tmp_path / 'a.zarr') == contents(tmp_path / 'b.zarr')


def test_spoilt_trees(trees, tmp_path):
    import pickle
    from scipy.io import loadmat, savemat
    from solopose.data.h36m import read_cdf, write_cdf
    from solopose.skeleton import MADS_19
    bad = {name: Path(shutil.copytree(root, tmp_path / name)) for name, root in trees.items()}
    left, right = (MADS_19.index(*(f'{s}_{j}' for j in ('shoulder', 'elbow', 'wrist'))) for s in 'lr')
    mat = bad['mads'] / 'multi_view_data' / 'Kata' / 'Kata_F2_GT.mat'; cells = loadmat(mat)['GTpose2']
    for k in range(cells.shape[1]): cells[0, k][left + right] = cells[0, k][right + left]
    savemat(mat, dict(GTpose2=cells))
    for p in bad['h36m'].glob('S5/MyPoseFeatures/D3_Positions*/*.cdf'): write_cdf(p, read_cdf(p).reshape(-1, 32, 3) / 10)
    (bad['mpi'] / 'S2' / 'Seq2' / 'camera.calibration').unlink()
    (bad['aist'] / 'keypoints3d' / 'gBR_sFM_cAll_d05_mBR1_ch02.pkl').write_bytes(pickle.dumps(dict(keypoints3d_optim=Evil(str(tmp_path / 'owned')))))
    out, _ = command(*options(bad), '--out', tmp_path / 'a.zarr', '--workers', 1)
    skipped = {d: why for d, _, why in read_report(tmp_path / 'a.zarr')['skipped']}
    assert 'arms have changed sides' in skipped['mads'] and 'centimetres' in skipped['h36m'] and 'camera.calibration' in skipped['mpi'] and 'not admitted' in skipped['aist'], skipped
    assert not (tmp_path / 'owned').exists() and open_augmotion(tmp_path / 'a.zarr').sizes['take'] == 10
    assert all(f'skipped: {d}' in out for d in skipped)


class Evil:
    "What a pickle from a mirror may hold."
    def __init__(self, path): self.path = path
    def __reduce__(self): return os.system, (f'touch {self.path}',)


@pytest.mark.parametrize('split', ['paper', 'take'])
def test_splits(trees, tmp_path, split):
    command(*options({k: trees[k] for k in ('aist', 'mads')}), '--out', tmp_path / 'a.zarr', '--workers', 1, '--split', split, '--scope', 'clip', '--frame', 'frd', '--reference', 'data')
    ds = open_augmotion(tmp_path / 'a.zarr')
    of = {s: set(ds.clip_view.values[ds.clip_split.values == k].tolist()) for k, s in enumerate(('train', 'val', 'test'))}
    assert bool(of['train'] & of['test']) == (split == 'paper') and ds.attrs['frame'] == 'frd' and 'clip_rotation' in ds
    if split == 'paper': assert np.abs(np.bincount(ds.clip_split.values) - ds.sizes['clip'] * np.array([.7, .2, .1])).max() <= 1


if __name__ == '__main__': solopose_augmotion()

"""Poses in the `movement` package, of today (singular dimensions, 0.17, Python 3.12) and of before (plural, up to 0.16).

movement is a dependency of this test only. It is looked for in this Python, and in those that SOLOPOSE_MOVEMENT names
(paths with colons between them), for instance of throw-away environments:

    python3.12 -m venv new && new/bin/pip install movement==0.17.0
    python3.11 -m venv old && old/bin/pip install movement==0.15.0
    SOLOPOSE_MOVEMENT=new/bin/python:old/bin/python pytest tests/test_movement.py
"""
import json, os, subprocess, sys
from importlib.util import find_spec
from types import SimpleNamespace
import numpy as np
import pytest
import xarray as xr
from solopose.poses import pose_dataset
from solopose.predict.tables import load_poses, write_netcdf
from solopose.skeleton import standing_pose

PYTHONS = [p for p in os.environ.get('SOLOPOSE_MOVEMENT', '').split(':') if p] + [sys.executable] * bool(find_spec('movement'))
SINGULAR, PLURAL = ('time', 'space', 'keypoint', 'individual'), ('time', 'space', 'keypoints', 'individuals')

READ = r'''
import json, sys
import movement
import xarray as xr
from movement.kinematics import compute_velocity
from movement.validators import datasets
valid = getattr(datasets, 'ValidPosesInputs', None) or datasets.ValidPosesDataset
ds = xr.load_dataset(sys.argv[1], engine='h5netcdf')
dims = valid.DIM_NAMES
if 'keypoints' in dims: ds = ds.rename(keypoint='keypoints', individual='individuals')
valid.validate(ds)
speed = compute_velocity(ds.position)
made = valid(source_software='solopose', position_array=ds.position.values, confidence_array=ds.confidence.values, fps=ds.fps,
             individual_names=list(ds[dims[3]].values), keypoint_names=list(ds[dims[2]].values)).to_dataset()
made.to_netcdf(sys.argv[2], engine='h5netcdf')
print(json.dumps(dict(version=movement.__version__, dims=list(dims), speed=float(abs(speed).max()), same=bool(made.position.equals(ds.position.drop_attrs())))))
'''


def walk():
    "Two people who move to the right by 1 m/s; the second is missing in the first frames."
    one = standing_pose() + np.linspace(0, 960, 25)[:, None, None] * [1, 0, 0]
    both = np.stack([one, one], -1)
    both[:4, ..., 1] = np.nan
    return pose_dataset(both, 25., np.where(np.isnan(both[:, :, 0]), 0., .8), root=None)


def test_written_singular_and_read_both(tmp_path):
    "The documented form: four dimensions by their names of 0.17; the names of before are read as well."
    poses = walk()
    write_netcdf(SimpleNamespace(poses=poses), tmp_path / 'new.nc')
    with xr.open_dataset(tmp_path / 'new.nc', engine='h5netcdf') as ds:
        assert ds.position.dims == SINGULAR and ds.confidence.dims == SINGULAR[:1] + SINGULAR[2:]
        assert ds.attrs['ds_type'] == 'poses' and ds.attrs['time_unit'] == 'seconds' and ds.attrs['fps'] == 25
    old = poses.rename(keypoint='keypoints', individual='individuals')
    assert old.position.dims == PLURAL
    old.to_netcdf(tmp_path / 'old.nc', engine='h5netcdf')
    for name in ('old.nc', 'new.nc'): xr.testing.assert_equal(load_poses(tmp_path / name), poses)


@pytest.mark.skipif(not PYTHONS, reason='no movement here: name a Python that has it in SOLOPOSE_MOVEMENT')
@pytest.mark.parametrize('python', PYTHONS)
def test_movement_reads_it(python, tmp_path):
    "Its own validator, its kinematics, and what it writes comes back."
    poses = walk()
    write_netcdf(SimpleNamespace(poses=poses), tmp_path / 'poses.nc')
    clean = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    got = subprocess.run([python, '-c', READ, tmp_path / 'poses.nc', tmp_path / 'back.nc'], capture_output=True, text=True, env=clean)
    assert got.returncode == 0, got.stderr[-2000:]
    said = json.loads(got.stdout.splitlines()[-1])
    new = tuple(int(v) for v in said['version'].split('.')[:2]) >= (0, 17)
    assert said['dims'] == list(SINGULAR if new else PLURAL), said
    assert said['same'] and abs(said['speed'] - 1000) < 1, said
    with xr.open_dataset(tmp_path / 'back.nc', engine='h5netcdf') as ds: back = ds.load()
    if not new: back = back.rename(keypoints='keypoint', individuals='individual')
    xr.testing.assert_allclose(back.position, poses.position.drop_attrs())

"Mutated files of every reader of data sets: a right value or one clear line, never a traceback, a hang or a gigabyte."
import io
import pickle
import tempfile
import zipfile
from functools import lru_cache
from pathlib import Path
import numpy as np
import pytest
from _fuzz import ended, fuzz, one_line
from solopose.data.aist import parse_name, pickled_shape, read_keypoints, read_setting, write_setting
from solopose.data.h36m import read_cdf, read_metadata, write_cdf, write_metadata
from solopose.data.mads import bouguet_camera, mads_poses, write_mads
from solopose.data.camera_files import mmpose_cameras
from solopose.data.mpi import read_annot_data, read_annotations
from solopose.data.mpi_files import read_captury, read_skeletool, write_captury, write_mpi, write_skeletool
from solopose.data.preprocessed import read_preprocessed
from solopose.data.recorded import drawn_frames, turn_camera
from solopose.synth.recordings import moving_person
from solopose.data.takes import TakeError

SEEDS_THAT_FAILED = dict(npz=(48, 160, 172, 272), pickle=(195,), text=(4, 38, 67, 229, 241, 252, 268), cdf=(65, 188, 377, 641, 1971), mat=(39,))


def poses(seed, frames=12, joints=32): return np.random.default_rng(seed).normal(0, .3, (frames, joints, 3)).astype('float32')


@lru_cache(None)
def npz_files():
    "Small valid files of the npz forms: name -> bytes."
    p, found = poses(0), {}
    views = {str(k): dict(data_2d=p[:, :17, :2], data_3d=p[:, :17]) for k in range(2)}
    flat = dict(imgname=np.array([f'S1_Eating.54138969_{i + 1:06d}.jpg' for i in range(12)]), S=np.ones((12, 17, 4)),
                part=np.ones((12, 17, 3)), center=np.ones((12, 2)), scale=np.ones(12))
    for name, arrays in {'data_3d_h36m': dict(positions_3d={'S1': {'Eating': p, 'Posing 1': p}}),
                         'data_train_3dhp': dict(data={'S1 Seq1': [views, 25]}), 'h36m_train': flat}.items():
        np.savez_compressed(stream := io.BytesIO(), **arrays)
        found[name + '.npz'] = stream.getvalue()
    return found


@lru_cache(None)
def pickle_files():
    "What pickles hold: name -> data."
    p = poses(1)
    camera = dict(R=np.eye(3), T=np.ones((3, 1)), f=np.ones((2, 1)) * 1000, c=np.ones((2, 1)) * 500, k=np.zeros((3, 1)), p=np.zeros((2, 1)), w=1000, h=1000)
    rows = [dict(image=f's_01_act_02_subact_01_ca_0{c}_{i + 1:06d}.jpg', joints_3d=p[i, :17], joints_3d_camera=p[i, :17],
                 camera={k: camera[k] for k in ('R', 'T')} | dict(fx=1000., fy=1000., cx=500., cy=500.)) for i in range(4) for c in (1, 2)]
    return {'gBR_sBM_cAll_d04_mBR0_ch03.pkl': dict(keypoints3d=p[:, :17], keypoints3d_optim=p[:, :17]),
            'cameras.pkl': {('S1', '54138969'): camera, 'S1_Seq1_Cam0': camera | dict(name='a')}, 'h36m_train.pkl': rows}


@lru_cache(None)
def trees():
    "Files that only a writer can make, read back as bytes: name -> bytes."
    with tempfile.TemporaryDirectory() as d:
        folder, small = Path(d), dict(seconds=.4, size=(64, 64))
        def film(r):
            r.videos = [drawn_frames(r, c) for c in r.cameras]
            return r
        r = moving_person(1, fps=30., subject='Kata', action='F2', n=3, **small)
        write_mads(folder / 'mads', [r])
        write_mpi(folder / 'mpi', [moving_person(2, fps=25., subject='S1', action='Seq1', n=8, **small),
                                   film(moving_person(2, fps=25., subject='TS1', action='test', n=1, **small))])
        write_cdf(folder / 'a.cdf', poses(2))
        write_setting(folder / 'setting1.json', moving_person(3, n=9, **small).cameras)
        write_metadata(folder / 'metadata.xml', {n: moving_person(4, n=4, **small).cameras for n in (1, 5)}, {('S1', 'Directions 1'): 12})
        write_skeletool(folder / 'camera.calibration', [turn_camera(c) for c in moving_person(5, n=3, **small).cameras])
        write_captury(folder / 'ts.calib', moving_person(6, n=1, **small).cameras[0])
        return {p.name: p.read_bytes() for p in folder.rglob('*') if p.suffix in ('.mat', '.cdf', '.json', '.xml', '.calibration', '.calib')}


def damaged(data, rng):
    "Bytes with one to three kinds of damage."
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        if not data: break
        i, kind = int(rng.integers(len(data))), rng.integers(7)
        if kind == 0: data[i] = rng.integers(256)
        elif kind == 1: data[i] ^= 1 << int(rng.integers(8))
        elif kind == 2: data[i:i + 4] = [b'\xff\xff\xff\x7f', b'\xff\xff\xff\xff', b'\0\0\0\0', b'\0\0\0\x10'][rng.integers(4)]
        elif kind == 3: del data[i:i + int(rng.integers(1, 50))]
        elif kind == 4 and rng.random() < .3: del data[i:]
        elif kind == 5: data[i:i] = rng.bytes(int(rng.integers(1, 9)))
        elif kind == 6: data[i:i + 8] = data[(j := int(rng.integers(len(data)))):j + 8]
    return bytes(data)


def inside(data, rng):
    "An npz whose members are damaged before they are zipped, so that no checksum betrays it."
    with zipfile.ZipFile(io.BytesIO(data)) as z, zipfile.ZipFile(out := io.BytesIO(), 'w', zipfile.ZIP_DEFLATED) as new:
        victim = z.namelist()[rng.integers(len(z.namelist()))]
        for n in z.namelist(): new.writestr(n, damaged(z.read(n), rng) if n == victim else z.read(n))
    return out.getvalue()


def words(text, rng):
    "Text with words exchanged for what does not belong there."
    strange = ('nan', 'inf', '1e308', '1e999', '-1', '0', '99999999999999999999', '1,5', '{', ']', '<x>', '&amp;', 'name', '\0', 'ü', '')
    parts = text.split(' ')
    for _ in range(rng.integers(1, 4)): parts[rng.integers(len(parts))] = str(rng.choice(strange))
    return ' '.join(parts)


def use_takes(takes):
    "Read every take; what fails must say so in one line."
    for t in takes:
        try: t.joints(t.views[0].name if t.frame == 'camera' else None)
        except TakeError as e: one_line(e)
    for _, why in takes.skipped: assert '\n' not in why


def read_text(path):
    "Any calibration text."
    reader = {'.json': read_setting, '.xml': read_metadata, '.calibration': read_skeletool, '.calib': lambda p: read_captury(p, (64, 64))}
    return reader[path.suffix](path)


def read_any_mat(path):
    "Any file of MATLAB."
    if path.name == 'annot_data.mat': return read_annot_data(path, 'annot3', 'valid_frame')
    if path.name.startswith('Calib'): return bouguet_camera(path)
    if path.name.endswith('_GT.mat'): return mads_poses(path)
    return read_annotations(path, 'annot3', 0)


def read_any_pickle(path):
    "Any pickle."
    if path.name.startswith('gBR'):
        parse_name(path.stem)
        pickled_shape(path)
        return read_keypoints(path)
    if path.name == 'cameras.pkl': return mmpose_cameras(path)
    return use_takes(read_preprocessed(path))


def choose(files, rng): return list(files.items())[rng.integers(len(files))]


def make(kind, rng):
    "Name, bytes and reader of one mutated file."
    if kind == 'npz':
        name, data = choose(npz_files(), rng)
        return name, (inside if rng.random() < .7 else damaged)(data, rng), lambda p: use_takes(read_preprocessed(p))
    if kind == 'pickle':
        name, held = choose(pickle_files(), rng)
        return name, damaged(pickle.dumps(held, int(rng.integers(6))), rng), read_any_pickle
    ends = dict(text=('.json', '.xml', '.calibration', '.calib'), cdf=('.cdf',), mat=('.mat',))[kind]
    name, data = choose({n: b for n, b in trees().items() if n.endswith(ends)}, rng)
    if kind == 'text' and rng.random() < .7: data = words(data.decode(), rng).encode()
    else: data = damaged(data, rng)
    return name, data, dict(text=read_text, cdf=read_cdf, mat=read_any_mat)[kind]


def fuzz_one(kind, seed, folder):
    "Read one mutated file; how it ended. Anything but a value or a ValueError of one line is raised."
    name, data, read = make(kind, np.random.default_rng([len(kind), ord(kind[0]), seed]))
    (folder / name).write_bytes(data)
    try: read(folder / name)
    except ValueError as e:
        one_line(e)
        return 'refused'
    return 'read'


@pytest.mark.parametrize('kind, seed', [(k, s) for k, seeds in SEEDS_THAT_FAILED.items() for s in (*seeds, *range(25))])
def test_mutated_file(tmp_path, kind, seed): assert ended(fuzz_one, kind, seed, tmp_path)[1] is None


@pytest.mark.slow
@pytest.mark.parametrize('kind', SEEDS_THAT_FAILED)
def test_fuzz(kind):
    "2,000 mutated files of each kind: no traceback, no hang over 10 s, memory under 1 GiB."
    fuzz('test_fuzz_data', kind)

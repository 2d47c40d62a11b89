"Data set files cut off anywhere, or with rubbish in them: a TakeError or a line in `skipped`, never a traceback, and the rest is read."
import io
import pickle
import shutil
import zipfile
from pathlib import Path
import numpy as np
import pytest
from solopose.data.mads import read_mads, write_mads
from solopose.data.mpi import read_mpi
from solopose.data.mpi_files import write_mpi
from solopose.data.preprocessed import read_preprocessed
from solopose.data.recorded import drawn_frames
from solopose.synth.recordings import moving_person
from solopose.data.takes import TakeError

TS = 'mpi_inf_3dhp_test_set/mpi_inf_3dhp_test_set/'
FILES = {'mads': ('multi_view_data/Jazz/Jazz_Jazz1_GT.mat', 'multi_view_data/Jazz/Calib_Cam1.mat', 'multi_view_data/Jazz/Jazz_Jazz1_C2.avi'),
         'mpi': ('S1/Seq1/annot.mat', 'S1/Seq1/camera.calibration', 'S1/Seq1/imageSequence/video_4.avi', 'util/mpii_get_sequence_info.m', TS + 'TS1/annot_data.mat',
                 TS + 'test_util/camera_calibration/ts1-4cameras.calib', TS + 'TS1/imageSequence/img_000001.jpg')}
READ = dict(mads=read_mads, mpi=read_mpi)
UNHURT = dict(mads='Kata_F2', mpi='S2/Seq1')


def film(r): r.videos = [drawn_frames(r, c) for c in r.cameras]; return r


@pytest.fixture(scope='module')
def trees(tmp_path_factory):
    root = tmp_path_factory.mktemp('trees')
    small = dict(seconds=.6, size=(128, 128))
    for subject, action in (('Jazz', 'Jazz1'), ('Kata', 'F2')): write_mads(root/'mads', [film(moving_person(1, fps=30., subject=subject, action=action, n=3, **small))])
    write_mpi(root/'mpi', [film(moving_person(2, fps=25., subject=s, action=a, n=n, **small)) for s, a, n in (('S1', 'Seq1', 8), ('S2', 'Seq1', 2), ('TS1', 'test', 1))])
    return root


def use(takes):
    "Check the takes and read every view; reasons of what failed."
    good = takes.checked(progress=False)
    reasons = [w for _, w in good.skipped]
    for t in good:
        for v in t.views:
            if v.problem: reasons.append(v.problem)
            else: assert len(t.in_camera(v.name)) == t.frames
    return good, reasons


def test_unhurt(trees):
    for name, read in READ.items():
        good, reasons = use(read(trees/name))
        assert good and not reasons


@pytest.mark.parametrize('name,file', [(n, f) for n, fs in FILES.items() for f in fs])
@pytest.mark.parametrize('how', ['empty', 'short', 'half', 'end', 'rubbish', 'gone'])
def test_damaged(trees, tmp_path, name, file, how):
    root = tmp_path/name
    shutil.copytree(trees/name, root)
    p = root/file; data = p.read_bytes()
    if how == 'gone': p.unlink()
    elif how == 'rubbish': p.write_bytes(np.random.default_rng(0).bytes(2000))
    else: p.write_bytes(data[:{'empty': 0, 'short': 150, 'half': len(data) // 2, 'end': len(data) - 9}[how]])
    good, reasons = use(READ[name](root))
    assert all('\n' not in r and len(r) < 600 for r in reasons)
    if not file.startswith('util'): assert UNHURT[name] in {t.name for t in good}
    harmless = (how, file[-9:]) in (('gone', 'z1_GT.mat'), ('end', 'annot.mat')) # no such take; all that is read lies before the last bytes
    if file.endswith(('annot.mat', '_GT.mat', 'annot_data.mat')): assert reasons or harmless


def one(kind):
    "A small valid file of a preprocessed form as bytes writer."
    p = np.random.default_rng(0).normal(0, .3, (20, 32, 3)).astype('float32')
    if kind == 'videopose3d': return 'data_3d_h36m.npz', lambda path: np.savez_compressed(path, positions_3d={'S1': {'Eating': p}})
    if kind == 'pstmo': return 'data_train_3dhp.npz', lambda path: np.savez_compressed(path, data={'S1 Seq1': [{'0': dict(data_2d=p[:, :17, :2], data_3d=p[:, :17])}, 25]})
    return 'h36m_train.pkl', lambda path: path.write_bytes(pickle.dumps([dict(image='x', joints_3d=p[0], joints_3d_camera=p[0], camera={})]))


@pytest.mark.parametrize('kind', ['videopose3d', 'pstmo', 'toolbox'])
@pytest.mark.parametrize('share', [0, .02, .3, .7, .99])
def test_cut_preprocessed(tmp_path, kind, share):
    name, write = one(kind)
    path = tmp_path/name; write(path)
    path.write_bytes(path.read_bytes()[:int(path.stat().st_size * share)])
    with pytest.raises(TakeError) as e: read_preprocessed(path)
    assert name in str(e.value) and '\n' not in str(e.value)


def test_wrong_rows(tmp_path):
    "Rows that lack what a form promises are one line, not a KeyError."
    name, write = one('toolbox'); write(tmp_path/name)
    with pytest.raises(TakeError): read_preprocessed(tmp_path/name)
    np.savez(tmp_path/'a.npz', data={'S1 Seq1': [{'0': {}}, 25], 'S2 Seq1': [3, 25]})
    takes = read_preprocessed(tmp_path/'a.npz')
    assert not takes and len(takes.skipped) == 2


def old_npz(path, data, protocol, module):
    "An npz with one object as NumPy of another time wrote it: its pickle protocol, its name for the module of arrays."
    held = pickle.dumps(np.array(data, object), protocol).replace(b'numpy._core.', module)
    np.lib.format.write_array_header_1_0(head := io.BytesIO(), dict(descr='|O', fortran_order=False, shape=()))
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('positions_3d.npy', head.getvalue() + held)


@pytest.mark.parametrize('protocol', [2, 3])
def test_npz_of_old_numpy(tmp_path, protocol):
    "NumPy before 1.17 wrote protocol 2, in which bytes are a call of a codec."
    p = np.random.default_rng(0).normal(0, .3, (20, 32, 3)).astype('float32')
    old_npz(tmp_path/'data_3d_h36m.npz', {'S1': {'Eating': p}}, protocol, b'numpy.core.')
    take, = read_preprocessed(tmp_path/'data_3d_h36m.npz')
    assert np.array_equal(take.joints(), p.astype(float) * 1000)


@pytest.mark.parametrize('made_by', ['np116', 'np117'])
def test_case_of_old_numpy(made_by):
    "The same in files that the old versions wrote themselves, where they are at hand."
    path = Path(__file__).resolve().parents[2]/f'shared/cases/npz_pickle_protocol2/data_{made_by}.npz'
    if not path.exists(): pytest.skip('the case is not here')
    p = (np.random.RandomState(0).normal(0, .3, (50, 32, 3)) + [0, 0, 1]).astype('float32')
    take, = read_preprocessed(path)
    assert take.name == 'S1/Directions 1' and np.array_equal(take.joints(), p.astype(float) * 1000)


@pytest.mark.parametrize('first', ['thumbnail', 'rendition'])
def test_second_track_is_the_film(tmp_path, first):
    "A reader takes the size and the length of the film, not those of a picture that lies before it."
    import av
    from solopose.data.takes import video_head
    path, tracks = tmp_path/'film.mkv', dict(thumbnail=((64, 48), 1), rendition=((32, 24), 30))[first]
    with av.open(str(path), 'w') as c:
        streams = []
        for (w, h), n in (tracks, ((320, 240), 30)):
            s = c.add_stream('mpeg4', rate=30)
            s.width, s.height, s.pix_fmt = w, h, 'yuv420p'
            streams.append((s, n))
        for k in range(30):
            for s, n in streams:
                if k < n: c.mux(s.encode(av.VideoFrame.from_ndarray(np.full((s.height, s.width, 3), 8 * k, 'uint8'), format='rgb24')))
        for s, _ in streams: c.mux(s.encode(None))
    with pytest.warns(UserWarning, match='2 picture tracks'): assert video_head(path)[2] == (320, 240)

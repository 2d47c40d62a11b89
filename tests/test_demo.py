"`solopose_demo` end to end, as somebody with a video uses it: a fresh process, a fresh folder, the shipped weights."
import hashlib, json, os, re, shutil, signal, subprocess, time
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import pytest
from conftest import demo, make_sound, make_video, pixels, refused, console, run

FILES = ('poses.nc', 'poses.json', 'poses.html', 'run.json')


def digests(folder): return {p.name: hashlib.sha1(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir()) if p.is_file()}


def read_poses(folder):
    import xarray as xr
    with xr.open_dataset(folder / 'poses.nc', engine='h5netcdf') as ds: return ds.load()


@pytest.fixture(scope='module')
def shipped(tmp_path_factory):
    "One run without a video, in an empty folder away from the checkout: (what it printed, the folder of results)."
    cwd = tmp_path_factory.mktemp('shipped')
    got = demo('--out', cwd / 'out', cwd=cwd)
    assert got.returncode == 0, got.stderr
    return got, cwd / 'out'


@pytest.fixture(scope='module')
def fresh(tmp_path_factory, short_clip):
    "One run on a video made by this test session."
    out = tmp_path_factory.mktemp('fresh') / 'deep' / 'out'
    got = demo(short_clip, '--out', out, cwd=out.parent.parent)
    assert got.returncode == 0, got.stderr
    return got, out


def test_says_how_good_and_how_fast(shipped):
    "Errors in millimetres beside those of the best constant pose, then seconds and frames per second."
    text = shipped[0].stdout
    assert 'Traceback' not in shipped[0].stderr
    for name in ('MPJPE', 'P-MPJPE', 'constant'): assert name in text, text
    assert re.search(r'\d[\d.]* ?mm', text), text
    last = text.strip().splitlines()[-1]
    assert re.search(r'\d', last) and re.search(r'\bs\b|second', last) and re.search(r'frames? ?(/|per|a) ?s|fps', last), last


def test_beats_the_constant_pose(shipped):
    "The line of the model is better than the line of the pose that looks at no picture."
    rows = {m[1]: [float(x) for x in re.findall(r'(\d+(?:\.\d+)?) ?mm', m[0])] for m in re.finditer(r'^(P-MPJPE|MPJPE)\b.*$', shipped[0].stdout, re.M)}
    assert rows.keys() == {'MPJPE', 'P-MPJPE'}, shipped[0].stdout
    for name, (model, constant) in rows.items(): assert 0 < model < constant, (name, model, constant)


@pytest.mark.parametrize('which', ['shipped', 'fresh'])
def test_netcdf(which, request):
    "Named dimensions, finite numbers, and attributes that answer unit, frame, axes, root and rate."
    from solopose.poses import check_poses
    from solopose.skeleton import SKELETON
    ds = read_poses(request.getfixturevalue(which)[1])
    assert set(ds.position.dims) == {'time', 'space', 'keypoint', 'individual'}
    assert set(ds.confidence.dims) == {'time', 'keypoint', 'individual'}
    assert ds.sizes['individual'] == 1
    assert list(ds.keypoint.values) == list(SKELETON.joints) and list(ds.space.values) == ['x', 'y', 'z']
    assert ds.attrs['unit'] == 'mm' and ds.attrs['frame'] == 'camera' and ds.attrs['fps'] > 0
    assert np.isfinite(ds.position).all()
    assert np.abs(ds.position).max() < 3000, 'a person is smaller than this'
    assert np.allclose(ds.position.sel(keypoint='pelvis'), 0, atol=1e-3) or ds.attrs['root'] != 'pelvis'
    assert ((ds.confidence >= 0) & (ds.confidence <= 1)).all()
    assert (np.diff(ds.time) > 0).all()
    check_poses(ds, frame='camera')


def test_one_pose_for_every_frame(fresh):
    "Twelve frames at 25 a second in, twelve poses at their times out."
    ds = read_poses(fresh[1])
    assert ds.sizes['time'] == 12
    assert np.allclose(ds.time, np.arange(12) / 25, atol=2e-3)


def numbers(tree):
    "Every number in a JSON value."
    if isinstance(tree, dict): tree = list(tree.values())
    if isinstance(tree, list): return [x for t in tree for x in numbers(t)]
    return [tree] if isinstance(tree, (int, float)) and not isinstance(tree, bool) else []


@pytest.mark.parametrize('which', ['shipped', 'fresh'])
def test_json(which, request):
    "Strict JSON with the names, the unit and as many numbers as the NetCDF has."
    out = request.getfixturevalue(which)[1]
    def no(x): raise AssertionError(f'{x} is not JSON')
    text = (out / 'poses.json').read_text(encoding='utf-8')
    found = json.loads(text, parse_constant=no)
    for word in ('"pelvis"', '"l_wrist"', '"mm"', '"camera"'): assert word in text
    assert len(numbers(found)) >= read_poses(out).position.size


@pytest.mark.parametrize('which', ['shipped', 'fresh'])
def test_page_opens_offline(which, request):
    "The page loads nothing from anywhere: no script, style, picture or font by address."
    page = (request.getfixturevalue(which)[1] / 'poses.html').read_text(encoding='utf-8')
    assert '<html' in page.lower() and len(page) < 30_000_000
    tags = re.findall(r'<(?:script|link|img|video|source|iframe|audio)\b[^>]*>', page)
    outside = [t[:120] for t in tags if re.search(r'(?:src|href)\s*=\s*["\']?(?:https?:)?//', t)]
    assert not outside, outside
    files = [t[:120] for t in tags if re.search(r'(?:src|href)\s*=\s*["\'](?!data:|#|blob:)[^"\']', t)]
    assert not files, files
    assert not re.search(r'@import\s+(?:url\()?["\']?https?:', page)


def test_same_result_twice(short_clip, fresh, tmp_path):
    "The same video gives the same poses."
    assert demo(short_clip, '--out', tmp_path).returncode == 0
    assert np.allclose(read_poses(tmp_path).position, read_poses(fresh[1]).position, atol=.01)


def test_box_is_used(short_clip, fresh, tmp_path):
    "A rectangle changes what the network sees."
    got = demo(short_clip, '--out', tmp_path, '--boxes', '50,0,110,120')
    assert got.returncode == 0, got.stderr
    assert not np.allclose(read_poses(tmp_path).position, read_poses(fresh[1]).position, atol=1.)


def _missing(d): return d / 'nothing.mp4'
def _folder(d): (d / 'folder.mp4').mkdir(); return d / 'folder.mp4'
def _text(d): (d / 'letter.mp4').write_text('Dear reader,\nthis is not a film.\n' * 20); return d / 'letter.mp4'
def _empty(d): (d / 'empty.mp4').touch(); return d / 'empty.mp4'
def _sound(d): return make_sound(d / 'sound.mp4')


def _cut(d):
    whole = make_video(d / 'whole.mp4', n=6).read_bytes()
    (d / 'cut.mp4').write_bytes(whole[:len(whole) // 3])
    return d / 'cut.mp4'


def _one(d): return make_video(d / 'one.mp4', n=1)
def _two(d): return make_video(d / 'two.mp4', n=2)
def _portrait(d): return make_video(d / 'portrait.mp4', n=5, width=90, height=160)
def _odd(d): return make_video(d / 'odd.mp4', n=5, width=101, height=77)
def _tiny(d): return make_video(d / 'tiny.mp4', n=3, width=16, height=16)
def _uneven(d): return make_video(d / 'uneven.mp4', n=6, times=[0, .04, .2, .24, .5, .54])
def _gaps(d): return make_video(d / 'ünlucky näme.mp4', n=3)


NO_VIDEO = (_missing, _folder, _text, _empty, _sound, _cut)
STRANGE = (_one, _two, _portrait, _odd, _tiny, _uneven, _gaps)
OPTIONS = (('--boxes', '1,2,3'), ('--boxes', '50,50,10,10'), ('--boxes', 'a,b,c,d'), ('--boxes', 'none.csv'), ('--weights', 'none.safetensors'), ('--device', 'abacus'),
           ('--people', '0'), ('--people', 'some'), ('--frame', 'moon'), ('--fov', '0'), ('--camera', 'none.yaml'), ('--formats', 'doc'), ('--start', '99'), ('--end', '0'),
           ('--cluster', 'moon'))


@pytest.fixture(scope='module')
def started(tmp_path_factory, short_clip):
    "One run for each bad file, strange film and bad option, two at a time: {case: (video, folder of results, future)}."
    jobs = {}
    with ThreadPoolExecutor(2) as pool:
        for make in NO_VIDEO + STRANGE:
            d = tmp_path_factory.mktemp(make.__name__)
            path = make(d)
            jobs[make] = path, d / 'out', pool.submit(demo, path, '--out', d / 'out', OMP_NUM_THREADS='1')
        for option in OPTIONS:
            out = tmp_path_factory.mktemp('option') / 'out'
            jobs[option] = short_clip, out, pool.submit(run, console('solopose_demo'), short_clip, '--out', out, *option, OMP_NUM_THREADS='1')
        yield jobs
        pool.shutdown(cancel_futures=True)


def untouched(out): return not out.exists() or not any(out.iterdir())


@pytest.mark.parametrize('make', NO_VIDEO, ids=lambda f: f.__name__[1:])
def test_refuses_in_one_line(make, started):
    "No video: exit code 2 and one line that names the file; nothing is written."
    path, out, job = started[make]
    refused(job.result(), path.name)
    assert untouched(out)


@pytest.mark.parametrize('make', STRANGE, ids=lambda f: f.__name__[1:])
def test_strange_videos(make, started):
    """Few frames, other shapes and uneven times give a pose for every frame, or a refusal in one line; never a
    traceback. In 16 x 16 pixels nobody can be told: there is no person."""
    path, out, job = started[make]
    got = job.result()
    if got.returncode: return refused(got, path.name)
    ds = read_poses(out)
    seen = np.isfinite(ds.position)
    assert seen.size and seen.all() if make is not _tiny else not ds.sizes['individual']
    assert ds.sizes['time'] < 2 or (np.diff(ds.time) > 0).all()
    for name in FILES: assert (out / name).stat().st_size > 0


@pytest.mark.parametrize('option', OPTIONS, ids='='.join)
def test_bad_options(option, started):
    "A wrong option is refused with its name or value in the message, and nothing is written."
    _, out, job = started[option]
    got = job.result()
    assert got.returncode == 2 and 'Traceback' not in got.stderr, (got.returncode, got.stderr)
    assert option[0].strip('-') in got.stderr or option[1] in got.stderr, got.stderr
    assert untouched(out)


def test_failed_run_keeps_old_results(fresh, tmp_path):
    "A run that fails leaves what stood in its --out as it was, and no half-written file."
    out = tmp_path / 'out'
    shutil.copytree(fresh[1], out)
    before = digests(out)
    refused(demo(_text(tmp_path), '--out', out), 'letter.mp4')
    assert digests(out) == before


def test_out_is_a_file(short_clip, tmp_path):
    "--out names an existing file: refused, and the file stays."
    (tmp_path / 'notes.txt').write_text('keep me')
    got = demo(short_clip, '--out', tmp_path / 'notes.txt')
    assert got.returncode == 2 and 'Traceback' not in got.stderr and 'notes.txt' in got.stderr, (got.returncode, got.stderr)
    assert (tmp_path / 'notes.txt').read_text() == 'keep me'


def test_help():
    "--help of both commands names every option and loads quickly enough to read."
    got = run(console('solopose_demo'), '--help')
    assert got.returncode == 0
    for option in ('--out', '--weights', '--device', '--boxes', '--people', '--frame', '--fov', '--camera', '--formats', '--fps', '--start', '--end', '--smooth', '--resume', '--mirror', '--cluster', '--view'): assert option in got.stdout
    assert run(console('solopose_train'), '--help').returncode == 0


def positions(folder): return read_poses(folder).position.transpose('time', 'keypoint', 'space', 'individual').values


def test_runs_do_not_mix(short_clip, fresh, tmp_path):
    "A second run into the same folder, with other formats, leaves no file of the first."
    out = tmp_path / 'out'
    shutil.copytree(fresh[1], out)
    assert demo(short_clip, '--out', out, '--formats', 'csv,nc', '--start', '.1').returncode == 0
    assert sorted(p.name for p in out.iterdir()) == ['poses.csv', 'poses.nc', 'run.json']
    assert not [p for p in tmp_path.iterdir() if p.name != 'out'], 'no lock and no partial result stays'


def mirrored_apart(tmp_path, *options):
    "Mean distance, mm, between the poses of a film and those of its mirror image turned back."
    from solopose.poses import flip
    frames, found = pixels(n=60, width=288, height=288), []
    for name, film in (('plain', frames), ('mirrored', frames[:, :, ::-1])):
        got = demo(make_video(tmp_path / f'{name}.mp4', film), '--out', tmp_path / name, '--formats', 'nc', '--mirror', *options)
        assert got.returncode == 0, got.stderr
        found.append(positions(tmp_path / name)[..., 0])
    off = np.linalg.norm(found[0] - flip(found[1]), axis=-1)
    assert np.isfinite(off).mean() > .9
    return np.nanmean(off)


def test_mirrored_film_in_a_given_box(tmp_path):
    "In the same box, a mirrored film gives the mirrored pose with sides exchanged; H.264 makes the rest."
    assert mirrored_apart(tmp_path, '--boxes', '0,0,288,288') < 8


def test_mirrored_film(tmp_path):
    "Boxes that are found differ by some pixels; where a foot is doubtful that moves it."
    assert mirrored_apart(tmp_path) < 20


def test_rotated_container(tmp_path):
    "A film that is stored on its side and asks to be turned gives the poses of the upright one."
    import av
    frames = pixels(n=25, width=200, height=288)
    make_video(tmp_path / 'upright.mp4', frames)
    lying = make_video(tmp_path / 'lying.mp4', np.ascontiguousarray(np.rot90(frames, -1, (1, 2))))
    with av.open(str(lying)) as a, av.open(str(tmp_path / 'turned.mp4'), 'w') as b:
        s = b.add_stream_from_template(a.streams.video[0])
        for p in a.demux(a.streams.video[0]):
            if p.dts is None: continue
            p.stream = s
            b.mux(p)
    raw = bytearray((tmp_path / 'turned.mp4').read_bytes())
    at = raw.index(b'tkhd') + 4 + 40
    for k, v in enumerate((0, -1, 0, 1, 0, 0)): raw[at + 4 * k:at + 4 * k + 4] = (v << 16).to_bytes(4, 'big', signed=True)
    (tmp_path / 'turned.mp4').write_bytes(raw)
    found = []
    for name in ('upright', 'turned'):
        got = demo(tmp_path / f'{name}.mp4', '--out', tmp_path / name, '--formats', 'nc')
        assert got.returncode == 0, got.stderr
        found.append(positions(tmp_path / name))
    assert found[0].shape == found[1].shape and np.nanmean(np.abs(found[0] - found[1])) < 15


def test_nobody(tmp_path):
    "A film without anybody: no person, one line, exit code 0."
    got = demo(make_video(tmp_path / 'empty.mp4', np.full((20, 96, 128, 3), 90, 'uint8')), '--out', tmp_path / 'out')
    assert got.returncode == 0 and 'nobody found in empty.mp4' in got.stdout, (got.stdout, got.stderr)
    assert not read_poses(tmp_path / 'out').sizes['individual']


def started_film(film, out, *more):
    "A run of the command that has read something: (process, folder of its partial results)."
    clean = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'IN_TEST')}
    process = subprocess.Popen([str(a) for a in (console('solopose_demo'), film, '--out', out, '--formats', 'nc', '--device', 'cpu', *more)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**clean, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''})
    return process, out.parent / f'.{out.name}.parts'


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGKILL])
def test_stopped_and_resumed(how, tmp_path):
    "Ctrl-C leaves a valid result of what was done; a kill leaves parts; --resume ends up with the poses of one go."
    film = make_video(tmp_path / 'film.mp4', n=400, width=144, height=144)
    process, parts = started_film(film, tmp_path / 'out')
    ready = (lambda: (parts / 'state.npz').exists()) if how == signal.SIGKILL else (lambda: parts.exists())
    until = time.monotonic() + 200
    while not ready() and process.poll() is None and time.monotonic() < until: time.sleep(.05)
    process.send_signal(how)
    said, _ = process.communicate(timeout=200)
    if process.returncode == 0: pytest.skip('the film was read before it could be stopped')
    if how == signal.SIGINT:
        assert process.returncode == 130 and '--resume goes on' in said, said
        assert 0 < read_poses(tmp_path / 'out').sizes['time'] < 400
    got = demo(film, '--out', tmp_path / 'out', '--formats', 'nc', '--resume')
    assert got.returncode == 0 and not parts.exists(), got.stderr
    assert demo(film, '--out', tmp_path / 'one', '--formats', 'nc').returncode == 0
    assert np.allclose(positions(tmp_path / 'out'), positions(tmp_path / 'one'), atol=.5, equal_nan=True)
    assert 'is done' in demo(film, '--out', tmp_path / 'out', '--formats', 'nc', '--resume').stdout


def test_many_films_and_a_kill(tmp_path):
    "Two workers, killed in the middle: the same command keeps what is done, and lists what is no film."
    pytest.importorskip('joblib', reason='several films at once need solopose[datasets]')
    (tmp_path / 'films').mkdir()
    for k in range(4): make_video(tmp_path / 'films' / f'{k}.mp4', n=30, seed=k)
    (tmp_path / 'films' / 'letter.mp4').write_text('Dear reader')
    out = tmp_path / 'out'
    clean = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'IN_TEST')}
    line = [str(a) for a in (console('solopose_demo'), tmp_path / 'films', '--out', out, '--formats', 'nc', '--device', 'cpu', '--cluster', 2)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env={**clean, 'OMP_NUM_THREADS': '1'})
    until = time.monotonic() + 250
    while not list(out.glob('*/run.json')) and process.poll() is None and time.monotonic() < until: time.sleep(.05)
    try: os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError: pass
    process.wait()
    kept = {p: p.stat().st_mtime_ns for p in out.glob('*/run.json')}
    assert kept
    got = run(*line)
    assert got.returncode == 2 and '1 of 5 films failed' in got.stderr and 'letter.mp4: failed' in got.stdout, (got.stdout, got.stderr)
    assert sorted(p.name for p in out.iterdir() if not p.name.startswith('.')) == ['0', '1', '2', '3']
    for p, t in kept.items(): assert p.stat().st_mtime_ns == t, 'done again'
    assert all((out / str(k) / 'poses.nc').exists() for k in range(4)) and got.stdout.count('done before') >= len(kept)

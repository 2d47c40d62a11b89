"Videos made on the spot, the command line in a fresh process, and the cells of notebooks."
import json, os, re, shutil, subprocess, sys
from functools import lru_cache
from pathlib import Path
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / 'nbs').rglob('*.ipynb'))
NOTEBOOKS = [p for p in NOTEBOOKS if not any(x.startswith(('.', '_')) for x in p.relative_to(ROOT).parts)]
EXPORT = re.compile(r'^\s*#\s*\|\s*exports?\b', re.M)


def text_of(s): return s if isinstance(s, str) else ''.join(s)


def cells(path, kind='code'):
    "The cells of one kind, as (position, source, outputs)."
    nb = json.loads(path.read_text(encoding='utf-8'))
    return [(i, text_of(c['source']), c.get('outputs', [])) for i, c in enumerate(nb['cells']) if c['cell_type'] == kind]


@lru_cache(1)
def person():
    "Frames of the clip that ships, (80, 288, 288, 3) uint8: somebody who dances."
    from solopose.predict.poses import asset
    from solopose.video.frames import read_video
    return np.stack(list(read_video(asset('demo.mp4'))))


def pixels(n=12, width=160, height=120, seed=0):
    "`n` frames, (n, height, width, 3) uint8, that show a person: the shipped clip, cut to this shape."
    from PIL import Image
    side = person().shape[1]
    w, h = (side * min(1, width / height), side * min(1, height / width))
    cut = ((side - w) / 2, (side - h) / 2, (side + w) / 2, (side + h) / 2)
    noise = np.random.default_rng(seed).integers(0, 3, (height, width, 1))
    frames = [np.asarray(Image.fromarray(person()[i % 80]).resize((width, height), box=cut)) for i in range(n)]
    return np.clip(np.stack(frames) + noise, 0, 255).astype('uint8')


def make_video(path, frames=None, fps=25, times=None, codec='libx264', **kw):
    "Encode `frames` (made from `kw` when None) at `fps`, or at `times` in seconds for a variable rate; returns the path."
    import av
    from fractions import Fraction
    frames = pixels(**kw) if frames is None else frames
    odd = frames.shape[1] % 2 or frames.shape[2] % 2
    with av.open(str(path), 'w') as c:
        s = c.add_stream(codec, rate=fps)
        s.height, s.width = frames.shape[1:3]
        s.pix_fmt = 'yuv444p' if odd else 'yuv420p'
        base = Fraction(1, 1000)
        s.time_base = s.codec_context.time_base = base
        for i, f in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(f, format='rgb24')
            frame.pts, frame.time_base = round(1000 * (i / fps if times is None else times[i])), base
            c.mux(s.encode(frame))
        c.mux(s.encode())
    return path


def make_sound(path):
    "An mp4 without any picture."
    import av
    with av.open(str(path), 'w') as c:
        s = c.add_stream('aac', rate=8000, layout='mono')
        for i in range(8):
            f = av.AudioFrame.from_ndarray(np.zeros((1, 1024), 'float32'), 'fltp', 'mono')
            f.sample_rate, f.pts = 8000, 1024 * i
            c.mux(s.encode(f))
        c.mux(s.encode())
    return path


def console(name):
    "The console command beside this Python, else on the PATH."
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f'{name} is not installed: run `python -m pip install -e ".[dev]"`'
    return found


def run(*args, cwd=None, timeout=300, **env):
    "A fresh process without standard input: its CompletedProcess, as text."
    # no PYTHONPATH games: the installed package is under test, wherever the process stands
    clean = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'IN_TEST')}
    return subprocess.run([str(a) for a in args], cwd=cwd, timeout=timeout, text=True, capture_output=True,
                          stdin=subprocess.DEVNULL, env={**clean, 'OMP_NUM_THREADS': '2', 'CUDA_VISIBLE_DEVICES': '', **env})


def demo(*args, **kw):
    "`solopose_demo` with `args` on the CPU."
    return run(console('solopose_demo'), *args, '--device', 'cpu', **kw)


def refused(result, name):
    "Is this a clean refusal: exit code 2, one line on stderr that names the file, no traceback?"
    lines = [l for l in result.stderr.splitlines() if l.strip()]
    assert 'Traceback' not in result.stderr, result.stderr
    assert result.returncode == 2, (result.returncode, result.stdout, result.stderr)
    assert len(lines) == 1, result.stderr
    assert name in lines[0], lines[0]
    return lines[0]


def pytest_addoption(parser): parser.addoption('--slow', action='store_true', help='also run tests that take minutes')


# What `pytest -m fast` runs of each file: tests of at most a few seconds each, fixtures included. '*': all that are not slow.
# A name with [0] runs its first case only: each case starts a command, which takes five seconds of processor.
# A file that is not here starts browsers, trainings or whole builds only, or is a check of the whole tree.
FAST = {
    'test_bench': 'test_missing_argument_exits_2', 'test_card': 'test_mixing_is_refused', 'test_damaged_files': '*',
    'test_demo': 'test_help', 'test_film': 'test_the_track_that_is_the_film test_exif_orientation test_clock_that_starts_again test_pictures',
    'test_fuzz_data': '*', 'test_house': '*', 'test_layers_run': 'test_one_line_when_something_is_missing[0]',
    'test_motion': 'test_dialects_are_read_as_the_same_keypoints test_channels_of_any_joint_count test_bad_bvh_gets_one_line '
                   'test_up_of_the_header test_joint_called_motion test_sides_exchanged',
    'test_movement': 'test_written_singular_and_read_both', 'test_prose': '*', 'test_skeleton': 'test_bodies_say_what_they_lack',
    'test_sync': 'test_exports_know_their_module test_no_module_without_a_notebook', 'test_synth': 'test_bad_arguments[0]',
    'test_train': 'test_empty_pool_is_one_clear_line test_eval_refuses_in_one_line', 'test_wrong_types': '*'}


def is_fast(item):
    "Does `pytest -m fast` run this test?"
    names, case = FAST.get(item.path.stem, ''), getattr(item, 'callspec', None)
    first = case is not None and not any(case.indices.values())
    named = names == '*' or item.originalname in names.split() or first and f'{item.originalname}[0]' in names.split()
    return 'slow' not in item.keywords and named


def pytest_configure(config):
    config.addinivalue_line('markers', 'slow: takes minutes; runs with --slow')
    config.addinivalue_line('markers', 'fast: takes at most a few seconds; given by the table in conftest.py')


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    for item in items:
        if is_fast(item): item.add_marker('fast')
        if 'slow' in item.keywords and not config.getoption('--slow'): item.add_marker(pytest.mark.skip(reason='takes minutes: pytest --slow'))


@pytest.fixture(scope='session')
def root(): return ROOT


@pytest.fixture(scope='session')
def short_clip(tmp_path_factory):
    "Half a second of video that nobody has seen before."
    return make_video(tmp_path_factory.mktemp('video') / 'fresh.mp4', n=12)

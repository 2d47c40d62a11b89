"Films that are damaged in 2,000 ways: each is read or refused in one line. Minutes: `pytest --slow`."
import tempfile
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
import numpy as np
import pytest
from _fuzz import ended, fuzz, one_line
from solopose.data.film import Film
from solopose.video.frames import read_video
from solopose.video.write import VideoError

SUFFIXES = 'mp4', 'mkv', 'avi', 'ts', 'mov', 'mpg', 'jpg', 'png'


def seed_films(folder):
    "One small good film of every kind, as bytes by suffix; the first half of the MP4 is fragmented."
    import av
    from PIL import Image
    y, x = np.mgrid[:64, :96]
    frames = [np.stack([(x * 2 + 5 * k) % 256, (y * 3) % 256, (x + y) % 256], -1).astype('uint8') for k in range(8)]
    for suffix in SUFFIXES:
        path = folder / f'seed.{suffix}'
        if suffix in ('jpg', 'png'):
            exif = Image.Exif()
            exif[274] = 6
            Image.fromarray(frames[0]).save(path, exif=exif)
            continue
        codec = {'mpg': 'mpeg2video', 'avi': 'mjpeg'}.get(suffix, 'libx264')
        with av.open(str(path), 'w', options={'movflags': 'frag_keyframe+empty_moov'} if suffix == 'mov' else {}) as c:
            s = c.add_stream(codec, rate=25, options={'g': '4'})
            s.height, s.width, s.pix_fmt = 64, 96, 'yuvj420p' if codec == 'mjpeg' else 'yuv420p'
            for k, a in enumerate(frames):
                f = av.VideoFrame.from_ndarray(a)
                f.pts, f.time_base = k, Fraction(1, 25)
                c.mux(s.encode(f))
            c.mux(s.encode())
    return {s: (folder / f'seed.{s}').read_bytes() for s in SUFFIXES}


def mutated(seed, films):
    "(suffix, bytes) of a damaged film: bits, bytes, numbers, blocks, cuts, repeats; mostly in the head."
    r = np.random.default_rng(seed)
    suffix = SUFFIXES[seed % len(SUFFIXES)]
    b = bytearray(films[suffix])
    head = len(b) if r.random() < .3 else min(len(b), 1200)
    if suffix == 'mp4' and r.random() < .6: start = max(0, b.find(b'moov'))
    else: start = 0
    for _ in range(r.integers(1, 12)):
        at, kind = start + int(r.integers(0, max(1, min(head, len(b) - start)))), r.integers(0, 7)
        if at >= len(b): continue
        n = int(r.integers(1, 9))
        if kind == 0: b[at] ^= 1 << int(r.integers(0, 8))
        elif kind == 1: b[at:at + n] = r.bytes(n)
        elif kind == 2: b[at:at + 4] = [b'\xff\xff\xff\xff', b'\0\0\0\0', b'\x7f\xff\xff\xff', b'\x80\0\0\0'][r.integers(0, 4)]
        elif kind == 3: del b[at:at + n * 8]
        elif kind == 4: b[at:at] = r.bytes(n * 8)
        elif kind == 5: b[at:at] = b[at:at + 200]
        else: del b[int(r.integers(at, len(b) + 1)):]
        if not b: b = bytearray(b'\0')
    return suffix, bytes(b)


@lru_cache(1)
def films():
    "The good films, made once."
    with tempfile.TemporaryDirectory() as folder: return seed_films(Path(folder))


def read_film(path):
    "Read a film to its end; what came out in a word. Any error but VideoError is a fault."
    video, n = read_video(path, size=64, max_frames=50), 0
    for t, f in video.timed():
        assert f.dtype == np.uint8 and f.ndim == 3 and np.isfinite(t)
        n += 1
    assert np.isfinite(video.fps) and video.fps > 0
    return 'read' if n else 'empty'


def read_times(path):
    "Read frames at given times, as the data sets do."
    film = Film(path)
    try: frames, _ = film.read(np.arange(0, .3, .04), size=32)
    finally: film.close()
    assert frames.shape == (8, 32, 32, 3)
    return 'read'


def fuzz_one(kind, seed, folder):
    "Read one damaged film; how it ended. Anything but frames or a VideoError of one line is raised."
    import av
    av.logging.set_level(None)
    suffix, data = mutated(seed, films())
    path = folder / f'm{seed}.{suffix}'
    path.write_bytes(data)
    try: return dict(film=read_film, times=read_times)[kind](path)
    except VideoError as e:
        one_line(e)
        assert path.name in str(e) or 'frame' in str(e), str(e)
        return 'refused'
    finally: path.unlink()


SEEDS_THAT_FAILED = dict(film=(), times=(277, 1157))


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('kind, seed', [(k, s) for k, seeds in SEEDS_THAT_FAILED.items() for s in (*seeds, *range(32))])
def test_damaged_film(tmp_path, kind, seed): assert ended(fuzz_one, kind, seed, tmp_path)[1] is None


@pytest.mark.slow
@pytest.mark.parametrize('kind', SEEDS_THAT_FAILED)
def test_two_thousand_damaged_films(kind):
    "No traceback, no crash, no hang over 10 s, memory under 1 GiB; damaged, and yet worth reading."
    fuzz('test_fuzz_film', kind, read=200, refused=200)
